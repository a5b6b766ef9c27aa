// A terminal with what stands over it: the search line, and the word on why it does not move.
import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { PictureButton } from '../shared/icons'
import { say } from '../shared/words'
import type { State } from './connection'
import { TerminalScreen } from './screen'
import type { Shell, Shells } from './shells'

interface PaneProps {
  shell: Shell
  shells: Shells
  shown: boolean
}

export function Pane({ shell, shells, shown }: PaneProps) {
  const screen = useSignal<TerminalScreen | undefined>(undefined)
  const searching = useSignal(false)
  const place = useRef<HTMLDivElement>(null)
  // a terminal is made when its tab is first in front: before that it has no size
  const seen = useRef(false)
  seen.current ||= shown

  useEffect(() => {
    if (!seen.current || screen.value !== undefined || place.current === null) return
    const made = new TerminalScreen(shells.rental, shell.id, {
      search: () => (searching.value = true),
      leave: (backwards) => leave(shell.id, backwards),
    })
    made.open(place.current)
    screen.value = made
  }, [seen.current])
  useEffect(() => () => screen.peek()?.close(), [])
  // somebody who goes from tab to tab by the arrow keys stays there until one is pressed
  const pressed = useRef(0)
  useEffect(() => {
    const passing = document.activeElement?.role === 'tab' && shells.pressed.value === pressed.current
    if (!shown || searching.value || screen.value === undefined || passing) return
    pressed.current = shells.pressed.value
    screen.value.terminal.focus()
  }, [shown, screen.value, searching.value, shells.pressed.value])

  const state = screen.value?.connection.state.value ?? { kind: 'connecting' as const }
  if (state.kind === 'ended') shell.ended = true
  return (
    <section id={`panel-${shell.id}`} role="tabpanel" aria-labelledby={`tab-${shell.id}`} class="panel terminal-panel" hidden={!shown}>
      {searching.value && screen.value && <Search screen={screen.value} onClose={() => (searching.value = false)} />}
      <div ref={place} class="terminal-place" data-state={state.kind} />
      <Word state={state} shell={shell} shells={shells} screen={screen.value} />
    </section>
  )
}

/** To the part of the page behind the terminal, or to the tabs before it: every other key belongs to the shell. */
function leave(id: string, backwards: boolean): void {
  const beside = Array.from(document.querySelectorAll<HTMLElement>('.side button:not(:disabled), .side a'))
  const next = beside.find((element) => element.offsetParent !== null)
  const before = document.getElementById(`tab-${id}`)
  const target = backwards ? before : next
  ;(target ?? before)?.focus()
}

interface WordProps {
  state: State
  shell: Shell
  shells: Shells
  screen: TerminalScreen | undefined
}

function Word({ state, shell, shells, screen }: WordProps) {
  const button = (text: string, onClick: () => void) => (
    <button type="button" class="button" onClick={onClick}>
      {text}
    </button>
  )
  switch (state.kind) {
    case 'open':
      return null
    case 'connecting':
      return <p class="terminal-word quiet">{say('connecting')}</p>
    case 'broken':
      return (
        <p class="terminal-word warning" role="alert">
          {say('reconnecting')}
        </p>
      )
    case 'taken':
      return (
        <p class="terminal-word" role="alert">
          {say('shellTaken')} {button(say('showHere'), () => screen?.connection.connect())}
        </p>
      )
    case 'gone':
      return (
        <p class="terminal-word" role="alert">
          {say('shellGone')} {button(say('close'), () => shells.drop(shell))}
        </p>
      )
    case 'ended':
      return (
        <p class="terminal-word" role="status">
          {say('shellEnded', { how: state.how })} {button(say('close'), () => void shells.end(shell, true))}
        </p>
      )
  }
}

function Search({ screen, onClose }: { screen: TerminalScreen; onClose: () => void }) {
  const missing = useSignal(false)
  const line = useRef<HTMLInputElement>(null)
  useEffect(() => line.current?.focus(), [])
  const find = (backwards: boolean) => {
    const wanted = line.current?.value ?? ''
    const found = backwards ? screen.search.findPrevious(wanted) : screen.search.findNext(wanted, { incremental: false })
    missing.value = wanted !== '' && !found
  }
  const close = () => {
    screen.search.clearDecorations()
    onClose()
  }
  const key = (event: KeyboardEvent) => {
    if (event.key === 'Enter') find(!event.shiftKey)
    else if (event.key === 'Escape') close()
    else return
    event.preventDefault()
  }
  return (
    <div class="search" role="search">
      <input ref={line} type="text" placeholder={say('searchIn')} aria-label={say('searchIn')} spellcheck={false} onKeyDown={key} onInput={() => find(true)} />
      <span class="quiet" role="status">
        {missing.value ? say('notFound') : ''}
      </span>
      <PictureButton of="up" label={say('previous')} onClick={() => find(true)} />
      <PictureButton of="down" label={say('next')} onClick={() => find(false)} />
      <PictureButton of="close" label={say('close')} onClick={close} />
    </div>
  )
}
