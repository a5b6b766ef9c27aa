// The files of a machine: one folder at a time, into which files are dropped.
import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { api, type Folder, type FolderEntry, type RentalRow } from '../shared/api'
import { confirm, prompt, report } from '../shared/dialog'
import { Picture, PictureButton } from '../shared/icons'
import { say } from '../shared/words'
import { download, JOB } from './downloads'
import { Entries } from './entries'
import { join, parent, steps } from './path'
import { add } from './upload'
import { Uploads } from './uploads'

export function Browser({ rental }: { rental: RentalRow }) {
  const folder = useSignal<Folder | undefined>(undefined)
  const dropping = useSignal(false)
  const chooser = useRef<HTMLInputElement>(null)

  const go = async (path: string) => {
    try {
      folder.value = await api.folder(rental.id, path)
    } catch (error) {
      report(error)
    }
  }
  useEffect(() => void go(JOB), [])
  if (folder.value === undefined) return <p class="empty quiet">{say('loading')}</p>
  const here = folder.value.path
  const refresh = () => go(folder.value!.path)
  const change = (changing: Promise<unknown>) => changing.then(refresh, report)

  const upload = async (files: File[]) => {
    const there = new Set(folder.value!.entries.map(({ name }) => name))
    const replaced = files.filter(({ name }) => there.has(name))
    if (replaced.length > 0 && !(await agreesToReplace(here, replaced))) return
    for (const file of files) add(rental.id, join(here, file.name), file, () => void refresh())
  }
  const open = (entry: FolderEntry) => {
    const path = join(here, entry.name)
    if (entry.kind === 'file') download(rental.id, path)
    else void go(path)
  }
  const rename = async (entry: FolderEntry) => {
    const field = { label: say('newName'), value: entry.name }
    const name = await prompt({ title: say('renameTitle'), field, action: say('save') })
    if (name && name !== entry.name) await change(api.rename(rental.id, join(here, entry.name), join(here, name)))
  }
  const remove = async (entry: FolderEntry) => {
    const question = { title: say('removeTitle', { name: entry.name }), text: say('removeText'), action: say('removeConfirm'), danger: true }
    if (await confirm(question)) await change(api.remove(rental.id, join(here, entry.name)))
  }
  const makeFolder = async () => {
    const field = { label: say('folderName'), value: '' }
    const name = await prompt({ title: say('newFolder'), field, action: say('create') })
    if (name) await change(api.makeFolder(rental.id, join(here, name)))
  }
  const drop = (event: DragEvent) => {
    event.preventDefault()
    dropping.value = false
    void upload(Array.from(event.dataTransfer?.files ?? []))
  }
  const choose = (event: Event) => {
    const input = event.currentTarget as HTMLInputElement
    void upload(Array.from(input.files ?? []))
    input.value = ''
  }
  const over = (event: DragEvent) => {
    event.preventDefault()
    dropping.value = true
  }
  const left = (event: DragEvent) => {
    if (!(event.currentTarget as HTMLElement).contains(event.relatedTarget as Node | null)) dropping.value = false
  }

  return (
    <div class={dropping.value ? 'browser dropping' : 'browser'} onDragOver={over} onDragLeave={left} onDrop={drop}>
      <div class="browser-bar">
        <PictureButton of="up" label={say('parent')} disabled={here === '/'} onClick={() => void go(parent(here))} />
        <nav class="steps" aria-label={say('path')}>
          {steps(here).map(({ name, path }) => (
            <button type="button" key={path} class="step" aria-current={path === here ? 'page' : undefined} onClick={() => void go(path)}>
              {name}
            </button>
          ))}
        </nav>
        <PictureButton of="refresh" label={say('refresh')} onClick={() => void refresh()} />
        <button type="button" class="button" onClick={() => void makeFolder()}>
          <Picture of="plus" />
          {say('newFolder')}
        </button>
        <button type="button" class="button primary" onClick={() => chooser.current?.click()}>
          <Picture of="upload" />
          {say('upload')}
        </button>
        <input ref={chooser} type="file" multiple hidden onChange={choose} aria-label={say('upload')} />
      </div>
      <Entries folder={folder.value} onOpen={open} onRename={(entry) => void rename(entry)} onRemove={(entry) => void remove(entry)} />
      <Uploads rental={rental.id} />
      {dropping.value && <div class="drop-word">{say('dropHere', { folder: here })}</div>}
    </div>
  )
}

function agreesToReplace(folder: string, files: File[]): Promise<boolean> {
  const text = (
    <>
      <p>{say('replaceText', { folder })}</p>
      <ul class="names">
        {files.map(({ name }) => (
          <li key={name}>
            <code>{name}</code>
          </li>
        ))}
      </ul>
    </>
  )
  return confirm({ title: say('replaceTitle', { n: files.length }), text, action: say('replaceConfirm'), danger: true })
}
