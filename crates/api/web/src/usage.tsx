// What the machine is doing: a curve each for its GPUs, processor, memory, disk and network.
import { useSignal } from '@preact/signals'
import { Chart, SPAN, type Line } from './chart'
import { bytes } from './shared/amounts'
import { api, type UsageSample } from './shared/api'
import { usePolling } from './shared/poll'
import { say } from './shared/words'

const EVERY = 1_000

export function Usage({ rental }: { rental: string }) {
  const samples = useSignal<UsageSample[]>([])
  const failure = useSignal<string | undefined>(undefined)
  usePolling(
    async () => {
      try {
        const from = (samples.value.at(-1)?.number ?? -1) + 1
        const page = await api.usage(rental, from)
        // the daemon was started again, and counts from the beginning
        const restarted = page.samples.length > 0 && page.samples[0]!.number < from
        samples.value = [...(restarted ? [] : samples.value), ...page.samples].slice(-SPAN - 1)
        failure.value = page.failure ?? undefined
      } catch {
        // said at the top of the page
      }
    },
    EVERY,
    rental,
  )
  const shown = samples.value
  return (
    <section class="usage" aria-label={say('usage')}>
      {failure.value !== undefined && <p class="notice small">{say('usageFailed', { why: failure.value })}</p>}
      {shown.length === 0 ? failure.value === undefined && <p class="quiet small">{say('noUsage')}</p> : <Curves samples={shown} />}
    </section>
  )
}

/** How fast something that is counted went up, a second; undefined where it cannot be told. */
function rates(samples: UsageSample[], count: (sample: UsageSample) => number): (number | undefined)[] {
  return samples.slice(1).map((sample, index) => {
    const before = samples[index]!
    const seconds = (sample.at - before.at) / 1000
    const more = count(sample) - count(before)
    return seconds > 0 && seconds < 10 && more >= 0 ? more / seconds : undefined
  })
}

function Curves({ samples }: { samples: UsageSample[] }) {
  const newest = samples.at(-1)!
  const each = (value: (sample: UsageSample) => number | undefined) => samples.slice(-SPAN).map(value)
  const cores = rates(samples, (sample) => sample.cpu_millis / 1000)
  const received = rates(samples, (sample) => sample.network_received_bytes)
  const sent = rates(samples, (sample) => sample.network_sent_bytes)
  const speed = (values: (number | undefined)[]) => `${bytes(values.at(-1) ?? 0)}${say('perSecond')}`
  return (
    <>
      {newest.gpus.map((gpu, index) => {
        const detail = [
          gpu.memory_bytes != null && bytes(gpu.memory_bytes),
          gpu.celsius != null && `${gpu.celsius} °C`,
          gpu.milliwatts != null && `${Math.round(gpu.milliwatts / 1000)} W`,
        ]
        return (
          <Curve
            key={index}
            name={say('gpu', { n: index })}
            value={gpu.utilisation_percent == null ? '–' : `${gpu.utilisation_percent} %`}
            detail={detail.filter(Boolean).join(' · ')}
            lines={[{ values: each((sample) => sample.gpus[index]?.utilisation_percent ?? undefined) }]}
            top={100}
          />
        )
      })}
      <Curve name={say('cpu')} value={`${(cores.at(-1) ?? 0).toFixed(2)} ${say('cores')}`} lines={[{ values: cores }]} />
      <Curve name={say('memory')} value={bytes(newest.memory_bytes)} lines={[{ values: each((sample) => sample.memory_bytes) }]} />
      <Curve name={say('disk')} value={bytes(newest.disk_bytes)} lines={[{ values: each((sample) => sample.disk_bytes) }]} />
      <Curve
        name={say('network')}
        value={`↓ ${speed(received)}  ↑ ${speed(sent)}`}
        lines={[{ values: received }, { values: sent, kind: 'second' }]}
      />
    </>
  )
}

interface CurveProps {
  name: string
  value: string
  detail?: string
  lines: Line[]
  top?: number
}

function Curve({ name, value, detail, lines, top }: CurveProps) {
  return (
    <div class="curve">
      <div class="curve-head">
        <span>{name}</span>
        <strong>{value}</strong>
      </div>
      <Chart lines={lines} label={`${name}: ${value}`} {...(top === undefined ? {} : { top })} />
      {detail && <div class="quiet small">{detail}</div>}
    </div>
  )
}
