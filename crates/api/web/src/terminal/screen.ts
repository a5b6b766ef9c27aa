// One terminal on the page: xterm.js with what we want of it, and its shell's connection.
//
// What a machine writes is not to be trusted. It may not touch the clipboard (no OSC 52) nor the title of the page, and a link opens only
// when it is clicked and its address was seen.
import { FitAddon } from '@xterm/addon-fit'
import { SearchAddon } from '@xterm/addon-search'
import { Unicode11Addon } from '@xterm/addon-unicode11'
import { WebLinksAddon } from '@xterm/addon-web-links'
import { WebglAddon } from '@xterm/addon-webgl'
import { type ITheme, Terminal } from '@xterm/xterm'
import { signal } from '@preact/signals'
import { confirm } from '../shared/dialog'
import { say } from '../shared/words'
import { Connection } from './connection'

/** Lines kept for scrolling back. */
const SCROLLBACK = 10_000

const FONT = 'ui-monospace, "SF Mono", "Cascadia Mono", "JetBrains Mono", Menlo, "DejaVu Sans Mono", "Noto Sans Mono CJK KR", monospace'

const DARK: ITheme = {
  background: '#0f1419',
  foreground: '#d7dde4',
  cursor: '#5eead4',
  cursorAccent: '#0f1419',
  selectionBackground: '#2f5f63',
  black: '#20262e',
  red: '#f2777a',
  green: '#86c98a',
  yellow: '#e6c07b',
  blue: '#7aa7ee',
  magenta: '#c397d8',
  cyan: '#62c5c0',
  white: '#d7dde4',
  brightBlack: '#717c8a',
  brightRed: '#ff9a9c',
  brightGreen: '#a5e0a8',
  brightYellow: '#f5d79b',
  brightBlue: '#a3c4fb',
  brightMagenta: '#dab6ec',
  brightCyan: '#8ae2dd',
  brightWhite: '#ffffff',
}

const LIGHT: ITheme = {
  background: '#ffffff',
  foreground: '#1f2933',
  cursor: '#0f766e',
  cursorAccent: '#ffffff',
  selectionBackground: '#bfe3df',
  black: '#1f2933',
  red: '#b42335',
  green: '#2b7a3d',
  yellow: '#8a6100',
  blue: '#1f5fbf',
  magenta: '#8a3fa0',
  cyan: '#0f7a80',
  white: '#5f6b7a',
  brightBlack: '#7b8794',
  brightRed: '#d3394d',
  brightGreen: '#3a9650',
  brightYellow: '#a67c00',
  brightBlue: '#3a7be0',
  brightMagenta: '#a65bbd',
  brightCyan: '#19959b',
  brightWhite: '#3e4c59',
}

/** Whether the page is dark just now. */
export const dark = signal(false)
/** Whether what is on the screen is also there as text, for those who hear it. It costs speed. */
export const reader = signal(localStorage.getItem('reader') === 'on')

/** What a key pressed in a terminal may do outside of it. */
export interface Keys {
  search(): void
  leave(backwards: boolean): void
}

export class TerminalScreen {
  readonly terminal: Terminal
  readonly search = new SearchAddon()
  readonly connection: Connection
  private readonly fitting = new FitAddon()
  private readonly observer = new ResizeObserver(() => this.fit())
  private readonly unsubscribe: (() => void)[]

  constructor(rental: string, id: string, keys: Keys) {
    this.terminal = new Terminal({
      allowProposedApi: true,
      cursorBlink: true,
      fontFamily: FONT,
      fontSize: 13,
      lineHeight: 1.15,
      scrollback: SCROLLBACK,
      macOptionIsMeta: true,
      minimumContrastRatio: 4.5,
      screenReaderMode: reader.value,
      linkHandler: { activate: (_event, address) => void follow(address) },
    })
    this.terminal.loadAddon(this.fitting)
    this.terminal.loadAddon(this.search)
    this.terminal.loadAddon(new Unicode11Addon())
    this.terminal.loadAddon(new WebLinksAddon((_event, address) => void follow(address)))
    this.terminal.unicode.activeVersion = '11'
    this.terminal.attachCustomKeyEventHandler((event) => this.key(event, keys))
    this.connection = new Connection(rental, id, {
      write: (bytes, done) => this.terminal.write(bytes, done),
      lost: () => {
        this.terminal.reset()
        this.terminal.write(`\x1b[2m[${say('missed')}]\x1b[0m\r\n`)
      },
    })
    const text = new TextEncoder()
    this.terminal.onData((data) => this.connection.send(text.encode(data)))
    this.terminal.onBinary((data) => this.connection.send(Uint8Array.from(data, (character) => character.charCodeAt(0))))
    this.terminal.onResize(({ cols, rows }) => this.connection.resize(cols, rows))
    this.unsubscribe = [
      dark.subscribe((isDark) => (this.terminal.options.theme = isDark ? DARK : LIGHT)),
      reader.subscribe((isOn) => (this.terminal.options.screenReaderMode = isOn)),
    ]
  }

  open(element: HTMLElement): void {
    this.terminal.open(element)
    this.accelerate()
    this.fit()
    this.observer.observe(element)
    this.connection.connect()
  }

  close(): void {
    this.connection.close()
    this.observer.disconnect()
    for (const unsubscribe of this.unsubscribe) unsubscribe()
    this.terminal.dispose()
  }

  private fit(): void {
    // a terminal that is not shown has no size
    if (this.terminal.element?.offsetParent) this.fitting.fit()
  }

  /** Paints with the graphics card where there is one; the browser's own text serves where there is none, or when it is lost. */
  private accelerate(): void {
    const context = document.createElement('canvas').getContext('webgl2', { failIfMajorPerformanceCaveat: true })
    if (context === null) return
    context.getExtension('WEBGL_lose_context')?.loseContext()
    const painter = new WebglAddon()
    painter.onContextLoss(() => painter.dispose())
    this.terminal.loadAddon(painter)
  }

  /** Whether the terminal may have the key. */
  private key(event: KeyboardEvent, keys: Keys): boolean {
    if (event.type !== 'keydown') return true
    const control = event.ctrlKey && !event.altKey && !event.metaKey
    const chosen = this.terminal.hasSelection()
    if (event.key === 'F6') {
      keys.leave(event.shiftKey)
    } else if (control && event.shiftKey && event.code === 'KeyF') {
      keys.search()
    } else if (control && event.code === 'KeyC' && (event.shiftKey || chosen)) {
      if (chosen) void navigator.clipboard.writeText(this.terminal.getSelection())
      this.terminal.clearSelection()
    } else if (control && event.shiftKey && event.code === 'KeyV') {
      // the browser pastes
      return false
    } else {
      return true
    }
    event.preventDefault()
    return false
  }
}

/** Opens a link that somebody else wrote, if the reader wants to, having seen where it leads. */
async function follow(address: string): Promise<void> {
  if (!/^https?:\/\//i.test(address)) return
  const wanted = await confirm({ title: say('openLinkTitle'), text: address, action: say('openLink') })
  if (wanted) window.open(address, '_blank', 'noopener,noreferrer')
}
