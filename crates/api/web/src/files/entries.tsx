// The entries of a folder, as a table that arrow keys move in.
import { useRef } from 'preact/hooks'
import { bytes, moment } from '../shared/amounts'
import type { Folder, FolderEntry } from '../shared/api'
import { Picture, PictureButton, type Icon } from '../shared/icons'
import { say } from '../shared/words'

interface EntriesProps {
  folder: Folder
  onOpen: (entry: FolderEntry) => void
  onRename: (entry: FolderEntry) => void
  onRemove: (entry: FolderEntry) => void
}

const ICONS: Record<FolderEntry['kind'], Icon> = { directory: 'folder', file: 'file', other: 'file' }

export function Entries({ folder, onOpen, onRename, onRemove }: EntriesProps) {
  const body = useRef<HTMLTableSectionElement>(null)
  const key = (event: KeyboardEvent, entry: FolderEntry, index: number) => {
    const rows = Array.from(body.current?.querySelectorAll<HTMLElement>('.entry-name') ?? [])
    const to = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: rows.length - 1 }[event.key]
    if (to !== undefined) rows[Math.max(0, Math.min(to, rows.length - 1))]?.focus()
    else if (event.key === 'F2') onRename(entry)
    else if (event.key === 'Delete') onRemove(entry)
    else return
    event.preventDefault()
  }
  if (folder.entries.length === 0) return <p class="empty quiet">{say('emptyFolder')}</p>
  return (
    <div class="entries">
      <table>
        <thead>
          <tr>
            <th scope="col">{say('name')}</th>
            <th scope="col" class="number">
              {say('size')}
            </th>
            <th scope="col" class="when">
              {say('modified')}
            </th>
            <th scope="col">
              <span class="hidden">{say('actions')}</span>
            </th>
          </tr>
        </thead>
        <tbody ref={body}>
          {folder.entries.map((entry, index) => (
            <tr key={entry.name}>
              <td>
                <button type="button" class="entry-name" onClick={() => onOpen(entry)} onKeyDown={(event) => key(event, entry, index)}>
                  <Picture of={entry.link ? 'link' : ICONS[entry.kind]} />
                  <span>{entry.name}</span>
                </button>
              </td>
              <td class="number">{entry.kind === 'file' ? bytes(entry.size) : ''}</td>
              <td class="when">{moment(entry.modified)}</td>
              <td class="entry-actions">
                {entry.kind === 'file' && (
                  <PictureButton of="download" label={say('download', { name: entry.name })} onClick={() => onOpen(entry)} />
                )}
                <PictureButton of="edit" label={say('rename', { name: entry.name })} onClick={() => onRename(entry)} />
                <PictureButton of="remove" label={say('remove', { name: entry.name })} onClick={() => onRemove(entry)} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {folder.more && <p class="quiet small">{say('moreEntries', { n: folder.entries.length })}</p>}
    </div>
  )
}
