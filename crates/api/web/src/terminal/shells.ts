// The shells of a rental that this page shows, each in a tab. The daemon has them; this page only shows them.
import { signal } from '@preact/signals'
import { api, type TerminalRow } from '../shared/api'
import { confirm, report } from '../shared/dialog'
import { say } from '../shared/words'

export interface Shell {
  id: string
  /** Counts the shells of this page. */
  number: number
  /** Whether it had ended before it was shown here. */
  ended: boolean
}

export function nameOf(shell: Shell): string {
  return say('shell', { n: shell.number })
}

export class Shells {
  readonly list = signal<Shell[]>([])
  /** The tab in front: a shell's id, or the files. */
  readonly chosen = signal('')
  readonly busy = signal(false)
  /** Counts how often a tab was pressed: what is in front is to have the keys then. */
  readonly pressed = signal(0)
  private count = 0
  private closed = false

  constructor(readonly rental: string) {}

  /** Shows a tab, and gives it the keys. */
  choose(id: string): void {
    this.chosen.value = id
    this.pressed.value += 1
  }

  /** Shows those that are there; opens the first. */
  async start(): Promise<void> {
    try {
      const found = await api.terminals(this.rental)
      if (this.closed) return
      this.list.value = found.map((row) => this.numbered(row))
      const last = this.list.value.at(-1)
      if (last === undefined) await this.open()
      else this.chosen.value = last.id
    } catch (error) {
      report(error)
    }
  }

  async open(): Promise<void> {
    if (this.busy.value) return
    this.busy.value = true
    try {
      const row = await api.openTerminal(this.rental, 80, 24)
      if (this.closed) return
      this.list.value = [...this.list.value, this.numbered(row)]
      this.chosen.value = row.id
    } catch (error) {
      report(error)
    } finally {
      this.busy.value = false
    }
  }

  /** Ends a shell; asks first, unless it has ended by itself. */
  async end(shell: Shell, over: boolean): Promise<void> {
    const question = { title: say('closeShellTitle', { name: nameOf(shell) }), text: say('closeShellText'), danger: true }
    if (!over && !(await confirm({ ...question, action: say('close') }))) return
    try {
      await api.closeTerminal(this.rental, shell.id)
      this.drop(shell)
    } catch (error) {
      report(error)
    }
  }

  /** Shows it no longer. */
  drop(shell: Shell): void {
    const [at, rest] = [this.list.value.indexOf(shell), this.list.value.filter((other) => other !== shell)]
    this.list.value = rest
    if (this.chosen.value === shell.id) this.chosen.value = (rest[at] ?? rest.at(-1))?.id ?? ''
  }

  close(): void {
    this.closed = true
  }

  private numbered({ id, ended }: TerminalRow): Shell {
    this.count += 1
    return { id, number: this.count, ended: ended != null }
  }
}
