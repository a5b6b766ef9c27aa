// Uploads: a file goes up in pieces, each with its hash, and each is on the machine before the next one is sent. What broke off goes on where
// the machine has it, also after the page was loaded anew: the daemon knows the attempt by the file's name, size and time.
import { signal } from '@preact/signals'
import { address, ask, Refusal, type UploadState } from '../shared/api'

/** What the daemon takes at once. */
const PIECE = 8 << 20
/** Uploads under way at once; the others wait. */
const MAX_AT_ONCE = 2
/** Between two attempts after the connection broke, milliseconds. */
const PAUSE = 2_000

export type Progress =
  | { kind: 'waiting' | 'checking' | 'paused' }
  | { kind: 'sending' | 'done'; sent: number }
  | { kind: 'failed'; why: string }

export class Upload {
  readonly progress = signal<Progress>({ kind: 'waiting' })
  private abort = new AbortController()

  constructor(
    readonly rental: string,
    readonly path: string,
    readonly file: File,
    private readonly finished: () => void,
  ) {}

  get name(): string {
    return this.path.slice(this.path.lastIndexOf('/') + 1)
  }

  pause(): void {
    this.abort.abort()
    this.progress.value = { kind: 'paused' }
  }

  /** Sends what is missing. */
  async run(): Promise<void> {
    this.abort = new AbortController()
    const { signal } = this.abort
    while (!signal.aborted) {
      try {
        await this.send(signal)
        this.finished()
        return
      } catch (error) {
        if (signal.aborted) return
        // a daemon or a machine that does not answer may come back; one that says no has a reason
        if (error instanceof Refusal && error.status < 500) {
          this.progress.value = { kind: 'failed', why: error.message }
          return
        }
        await new Promise((resume) => setTimeout(resume, PAUSE))
      }
    }
  }

  private async send(signal: AbortSignal): Promise<void> {
    this.progress.value = { kind: 'checking' }
    let state = await this.state(signal)
    while (!state.done) {
      this.progress.value = { kind: 'sending', sent: state.offset }
      const piece = await this.file.slice(state.offset, state.offset + PIECE).arrayBuffer()
      signal.throwIfAborted()
      state = await this.put(state.offset, piece, signal)
    }
    this.progress.value = { kind: 'done', sent: this.file.size }
  }

  private url(values: Record<string, number> = {}): string {
    const { size, lastModified: modified } = this.file
    return address(`/rentals/${this.rental}/files/upload`, { path: this.path, size, modified, ...values })
  }

  private async state(signal: AbortSignal): Promise<UploadState> {
    return (await ask('GET', this.url(), { signal })).json() as Promise<UploadState>
  }

  private async put(offset: number, piece: ArrayBuffer, signal: AbortSignal): Promise<UploadState> {
    const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', piece))
    const sha256 = Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('')
    const headers = { 'content-type': 'application/octet-stream', 'x-gpulease-sha256': sha256 }
    return (await ask('PUT', this.url({ offset }), { body: piece, headers, signal })).json() as Promise<UploadState>
  }
}

/** All uploads of this page, and when which of them goes. */
export const uploads = signal<Upload[]>([])

export function add(rental: string, path: string, file: File, finished: () => void): void {
  const upload = new Upload(rental, path, file, finished)
  uploads.value = [...uploads.value, upload]
  advance()
}

export function dismiss(upload: Upload): void {
  upload.pause()
  uploads.value = uploads.value.filter((other) => other !== upload)
  advance()
}

export function resume(upload: Upload): void {
  upload.progress.value = { kind: 'waiting' }
  advance()
}

function advance(): void {
  const is = (...kinds: Progress['kind'][]) => uploads.value.filter(({ progress }) => kinds.includes(progress.value.kind))
  const room = MAX_AT_ONCE - is('checking', 'sending').length
  for (const upload of is('waiting').slice(0, Math.max(0, room))) void upload.run().then(advance)
}
