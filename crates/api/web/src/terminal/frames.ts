// The frames of a shell's websocket, as crates/api/src/console/terminal/stream.rs describes them.

export type Heard =
  | { kind: 'output'; bytes: Uint8Array }
  | { kind: 'begin'; from: number; again: number; accepted: number }
  | { kind: 'taken'; bytes: number }
  | { kind: 'end'; how: string }

/** A number of eight bytes. Shells do not write more than 2^53 of them. */
function number(view: DataView, offset: number): number {
  return Number(view.getBigUint64(offset))
}

export function hear(frame: ArrayBuffer): Heard | undefined {
  const view = new DataView(frame)
  switch (view.getUint8(0)) {
    case 0:
      return { kind: 'output', bytes: new Uint8Array(frame, 1) }
    case 1:
      return { kind: 'begin', from: number(view, 1), again: number(view, 9), accepted: number(view, 17) }
    case 2:
      return { kind: 'taken', bytes: number(view, 1) }
    case 3:
      return { kind: 'end', how: new TextDecoder().decode(new Uint8Array(frame, 1)) }
    default:
      return undefined
  }
}

export function input(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(1 + bytes.length)
  frame.set(bytes, 1)
  return frame
}

export function size(columns: number, rows: number): ArrayBuffer {
  const view = new DataView(new ArrayBuffer(5))
  view.setUint8(0, 1)
  view.setUint16(1, columns)
  view.setUint16(3, rows)
  return view.buffer
}

export function shown(before: number): ArrayBuffer {
  const view = new DataView(new ArrayBuffer(9))
  view.setUint8(0, 2)
  view.setBigUint64(1, BigInt(before))
  return view.buffer
}
