// A curve of the last minutes: one line in a small picture, drawn to its own largest value or to a given one.

export interface Line {
  values: (number | undefined)[]
  kind?: 'second'
}

interface ChartProps {
  lines: Line[]
  /** The value at the top; the largest one if it is not given. */
  top?: number
  label: string
}

const [WIDTH, HEIGHT] = [240, 44]
/** Samples from the left edge to the right: two minutes. */
export const SPAN = 120

/** The points of a line, broken where nothing was measured. */
function path(values: (number | undefined)[], top: number): string {
  const [step, first] = [WIDTH / (SPAN - 1), SPAN - values.length]
  let [text, drawing] = ['', false]
  values.forEach((value, index) => {
    if (value !== undefined) {
      const [x, y] = [(first + index) * step, HEIGHT - 1 - (Math.min(value, top) / top) * (HEIGHT - 3)]
      text += `${drawing ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`
    }
    drawing = value !== undefined
  })
  return text
}

export function Chart({ lines, top, label }: ChartProps) {
  const measured = lines.flatMap(({ values }) => values.filter((value) => value !== undefined))
  const height = top ?? Math.max(1e-9, ...measured) * 1.15
  return (
    <svg class="chart" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={label}>
      {lines.map(({ values, kind }, index) => (
        <g key={index} class={kind ?? 'first'}>
          {kind === undefined && <path class="area" d={area(path(values, height), values.length)} />}
          <path class="line" d={path(values, height)} />
        </g>
      ))}
    </svg>
  )
}

/** What lies under a line that has no gaps. */
function area(line: string, count: number): string {
  if (line === '' || line.lastIndexOf('M') > 0) return ''
  const left = (SPAN - count) * (WIDTH / (SPAN - 1))
  return `${line}L${WIDTH} ${HEIGHT}L${left.toFixed(1)} ${HEIGHT}Z`
}
