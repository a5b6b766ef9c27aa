// What this page has downloaded, so that the question before the end of a rental does not name it. The download itself is the browser's: it
// shows how far it is, and goes on after a break, since the daemon answers ranges.
import { api } from '../shared/api'

/** The folder of the job: where a shell begins, and what is fetched at the end of a run. */
export const JOB = '/job'

const done = new Set<string>()

const key = (rental: string, path: string) => `${rental} ${path}`

export function downloaded(rental: string, path: string): boolean {
  return done.has(key(rental, path))
}

export function download(rental: string, path: string): void {
  const link = document.createElement('a')
  link.href = api.content(rental, path)
  link.download = path.slice(path.lastIndexOf('/') + 1)
  link.click()
  done.add(key(rental, path))
}
