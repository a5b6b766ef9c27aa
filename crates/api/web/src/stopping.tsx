// The question before a rental is ended: what would be lost with it.
import { signal } from '@preact/signals'
import { downloaded, JOB } from './files/downloads'
import { bytes } from './shared/amounts'
import { api, type FolderEntry, type RentalRow } from './shared/api'
import { confirm, report } from './shared/dialog'
import { say } from './shared/words'

/** Names in the question; the rest is counted. */
const NAMED = 8

type Found = { kind: 'looking' } | { kind: 'files'; files: FolderEntry[] } | { kind: 'unknown'; why: string }

/** What was written into the job's folder since the rental began, and not downloaded by this page. */
async function unfetched(rental: RentalRow): Promise<FolderEntry[]> {
  const { entries } = await api.folder(rental.id, JOB)
  const since = rental.ready_at ?? 0
  // what shells and programs keep for themselves is nobody's result
  const results = entries.filter(({ name, modified }) => !name.startsWith('.') && modified >= since)
  return results.filter(({ name }) => !downloaded(rental.id, `${JOB}/${name}`))
}

export async function askToStop(rental: RentalRow): Promise<void> {
  const found = signal<Found>({ kind: 'looking' })
  unfetched(rental).then(
    (files) => (found.value = { kind: 'files', files }),
    (error: unknown) => (found.value = { kind: 'unknown', why: error instanceof Error ? error.message : String(error) }),
  )
  const text = () => (
    <>
      <p>{say('stopText', { cost: rental.cost })}</p>
      <Lost found={found.value} />
    </>
  )
  const Text = text
  if (!(await confirm({ title: say('stopTitle'), text: <Text />, action: say('stopConfirm'), danger: true }))) return
  await api.stop(rental.id).catch(report)
}

function Lost({ found }: { found: Found }) {
  switch (found.kind) {
    case 'looking':
      return <p class="quiet">{say('stopChecking')}</p>
    case 'unknown':
      return <p class="notice warning">{say('stopUnknown', { why: found.why })}</p>
    case 'files':
      if (found.files.length === 0) return <p class="quiet">{say('stopNothing', { folder: JOB })}</p>
      return (
        <>
          <p>
            <strong>{say('stopUnfetched')}</strong>
          </p>
          <ul class="names">
            {found.files.slice(0, NAMED).map(({ name, kind, size }) => (
              <li key={name}>
                <code>{kind === 'directory' ? `${name}/` : name}</code> <span class="quiet">{kind === 'file' && bytes(size)}</span>
              </li>
            ))}
            {found.files.length > NAMED && <li class="quiet">{say('stopMore', { n: found.files.length - NAMED })}</li>}
          </ul>
        </>
      )
  }
}
