// What the keyboard does, for those who look for it.
import { confirm } from './dialog'
import { PictureButton } from './icons'
import { say, type Words } from './words'

const KEYS: [string, keyof Words][] = [
  ['Ctrl+Shift+C', 'keyCopy'],
  ['Ctrl+Shift+V', 'keyPaste'],
  ['Ctrl+Shift+F', 'keySearch'],
  ['F6', 'keyLeave'],
  ['← →', 'keyTabs'],
  ['Enter', 'keyOpen'],
  ['F2', 'keyRename'],
  ['Delete', 'keyRemove'],
]

function Table() {
  return (
    <dl class="keys">
      {KEYS.map(([key, meaning]) => (
        <div key={key}>
          <dt>
            <kbd>{key}</kbd>
          </dt>
          <dd>{say(meaning)}</dd>
        </div>
      ))}
    </dl>
  )
}

export function KeysButton() {
  return <PictureButton of="keyboard" label={say('keys')} onClick={() => void confirm({ title: say('keysTitle'), text: <Table /> })} />
}
