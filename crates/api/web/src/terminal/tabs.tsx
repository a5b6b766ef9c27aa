// The tabs of a rental: its shells, and its files. Arrow keys go from one to the next, as in every list of tabs.
import { useEffect } from 'preact/hooks'
import { FILES } from '../rental'
import { Picture, PictureButton } from '../shared/icons'
import { say } from '../shared/words'
import { nameOf, type Shell, type Shells } from './shells'

export function TabBar({ shells }: { shells: Shells }) {
  const { list, chosen } = shells
  const ids = [...list.value.map(({ id }) => id), FILES]
  useEffect(() => {
    document.getElementById(`tab-${chosen.value}`)?.scrollIntoView({ inline: 'nearest', block: 'nearest' })
  }, [chosen.value, list.value])
  const go = (event: KeyboardEvent) => {
    const at = ids.indexOf(chosen.value)
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: ids.length - 1 }[event.key]
    if (to === undefined) return
    event.preventDefault()
    const id = ids.at(to % ids.length)!
    chosen.value = id
    document.getElementById(`tab-${id}`)?.focus()
  }
  return (
    <div class="tabs">
      <div class="tab-list" role="tablist" onKeyDown={go}>
        {list.value.map((shell) => (
          <ShellTab key={shell.id} shell={shell} shells={shells} />
        ))}
        <Tab id={FILES} chosen={chosen.value === FILES} onChoose={() => shells.choose(FILES)}>
          <Picture of="folder" />
          {say('files')}
        </Tab>
      </div>
      <PictureButton of="plus" label={say('newShell')} disabled={shells.busy.value} onClick={() => void shells.open()} />
    </div>
  )
}

function ShellTab({ shell, shells }: { shell: Shell; shells: Shells }) {
  const chosen = shells.chosen.value === shell.id
  return (
    <span class={chosen ? 'tab-frame chosen' : 'tab-frame'}>
      <Tab id={shell.id} chosen={chosen} onChoose={() => shells.choose(shell.id)}>
        {nameOf(shell)}
      </Tab>
      <button
        type="button"
        class="tab-close"
        tabIndex={chosen ? 0 : -1}
        title={say('closeShell', { name: nameOf(shell) })}
        aria-label={say('closeShell', { name: nameOf(shell) })}
        onClick={() => void shells.end(shell, shell.ended)}
      >
        <Picture of="close" />
      </button>
    </span>
  )
}

interface TabProps {
  id: string
  chosen: boolean
  onChoose: () => void
  children: preact.ComponentChildren
}

function Tab({ id, chosen, onChoose, children }: TabProps) {
  return (
    <button
      type="button"
      role="tab"
      id={`tab-${id}`}
      class={chosen ? 'tab chosen' : 'tab'}
      aria-selected={chosen}
      aria-controls={`panel-${id}`}
      tabIndex={chosen ? 0 : -1}
      onClick={onChoose}
    >
      {children}
    </button>
  )
}
