// A shell's connection: it comes again by itself when it breaks, and goes on where it was. What arrives is acknowledged once it is on the
// screen, so that a program which writes faster than the browser paints waits for it; what is pasted goes out no faster than the program
// reads.
import { signal } from '@preact/signals'
import { address, api, Refusal } from '../shared/api'
import { hear, input, shown, size } from './frames'

/** What the screen does with what arrives. */
export interface Screen {
  write(bytes: Uint8Array, done: () => void): void
  /** Output was lost: what is there already cannot be gone on with. */
  lost(): void
}

export type State =
  | { kind: 'connecting' | 'open' | 'broken' | 'taken' | 'gone' }
  | { kind: 'ended'; how: string }

/** The daemon takes twice as much. */
const MAX_IN_FLIGHT = 128 << 10
/** Of what is pasted, in one frame. */
const PIECE = 16 << 10
/** Output that is acknowledged together. */
const ACKNOWLEDGED = 32 << 10
/** Between two attempts to connect, milliseconds. */
const PAUSES = [100, 250, 500, 1000, 2000, 4000]
/** The close code of a connection that lost its shell to another window. */
const TAKEN_OVER = 4001

export class Connection {
  readonly state = signal<State>({ kind: 'connecting' })
  private socket: WebSocket | undefined
  private attempt = 0
  private timer: ReturnType<typeof setTimeout> | undefined
  private closed = false
  private columns = 80
  private rows = 24
  /** Bytes of output received, on the screen, and acknowledged, from the beginning. */
  private received = 0
  private painted = 0
  private acknowledged = 0
  /** Output before this was shown before: what a program asked the terminal in it was answered then. */
  private again = 0
  /** Bytes of input sent, and taken by the program, from the beginning. */
  private sent = 0
  private taken = 0
  private waiting: Uint8Array[] = []

  constructor(
    private readonly rental: string,
    private readonly terminal: string,
    private readonly screen: Screen,
  ) {}

  connect(): void {
    this.closed = false
    const path = `/rentals/${this.rental}/terminals/${this.terminal}/stream`
    const url = new URL(address(path, { seen: this.received }), location.href)
    url.protocol = 'ws:'
    const socket = new WebSocket(url)
    socket.binaryType = 'arraybuffer'
    socket.onmessage = (message) => this.heard(message.data as ArrayBuffer)
    socket.onclose = (event) => {
      if (this.socket === socket) this.broke(event.code)
    }
    this.socket = socket
  }

  /** Leaves; the shell goes on. */
  close(): void {
    this.closed = true
    clearTimeout(this.timer)
    this.socket?.close()
    this.socket = undefined
  }

  /** Something was typed, pasted, or answered by the terminal itself. */
  send(bytes: Uint8Array): void {
    // what is typed blindly would be carried out later, somewhere else perhaps
    if (this.state.value.kind !== 'open' || this.painted < this.again) return
    for (let at = 0; at < bytes.length; at += PIECE) this.waiting.push(bytes.subarray(at, at + PIECE))
    this.flush()
  }

  resize(columns: number, rows: number): void {
    this.columns = columns
    this.rows = rows
    if (this.state.value.kind === 'open') this.socket?.send(size(columns, rows))
  }

  private flush(): void {
    while (this.waiting.length > 0 && this.sent - this.taken < MAX_IN_FLIGHT) {
      const bytes = this.waiting.shift()!
      this.sent += bytes.length
      this.socket?.send(input(bytes))
    }
  }

  private heard(data: ArrayBuffer): void {
    const heard = hear(data)
    switch (heard?.kind) {
      case 'begin':
        return this.begun(heard.from, heard.again, heard.accepted)
      case 'output':
        return this.paint(heard.bytes)
      case 'taken':
        this.taken = heard.bytes
        return this.flush()
      case 'end':
        this.close()
        this.state.value = { kind: 'ended', how: heard.how }
    }
  }

  private begun(from: number, again: number, accepted: number): void {
    const first = this.received === 0
    if (from !== this.received) {
      if (from > 0) this.screen.lost()
      this.received = this.painted = this.acknowledged = from
    }
    // only a page that is new here is shown what another has answered
    this.again = first ? again : 0
    this.sent = this.taken = accepted
    this.waiting = []
    this.attempt = 0
    this.state.value = { kind: 'open' }
    this.resize(this.columns, this.rows)
  }

  private paint(bytes: Uint8Array): void {
    this.received += bytes.length
    const before = this.received
    this.screen.write(bytes, () => {
      this.painted = before
      const enough = this.painted - this.acknowledged >= ACKNOWLEDGED || this.painted === this.received
      if (enough && this.socket?.readyState === WebSocket.OPEN) {
        this.acknowledged = this.painted
        this.socket.send(shown(this.painted))
      }
    })
  }

  private broke(code: number): void {
    this.socket = undefined
    if (this.closed) return
    if (code === TAKEN_OVER) {
      this.state.value = { kind: 'taken' }
      return
    }
    this.state.value = { kind: 'broken' }
    const pause = PAUSES[Math.min(this.attempt, PAUSES.length - 1)]!
    this.attempt += 1
    this.timer = setTimeout(() => void this.retry(), pause)
  }

  /** A websocket does not say why it was refused, so that is asked first. */
  private async retry(): Promise<void> {
    try {
      const terminals = await api.terminals(this.rental)
      if (this.closed) return
      if (terminals.some(({ id }) => id === this.terminal)) this.connect()
      else this.state.value = { kind: 'gone' }
    } catch (error) {
      if (error instanceof Refusal && error.status === 403) return
      this.broke(0)
    }
  }
}
