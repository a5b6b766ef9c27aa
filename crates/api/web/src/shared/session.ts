// How this browser was let in. A link carries a token behind its `#`, which works once; the daemon gives a cookie for it, which scripts do
// not see, and the path that the cookie is for, which only this origin's pages know.
import { signal } from '@preact/signals'

export interface Session {
  base: string
}

/** `undefined` until it is known, `none` when this browser was not let in. */
export const session = signal<Session | 'none' | undefined>(undefined)

/** The rental that the page shows, by its id or the beginning of it; empty for the list. */
export const shown = signal('')

const STORED = 'session'

function read(): { token: string | null; rental: string } {
  const text = location.hash.slice(1)
  if (!text.includes('=')) return { token: null, rental: decodeURIComponent(text) }
  const values = new URLSearchParams(text)
  return { token: values.get('token'), rental: values.get('rental') ?? '' }
}

/** Shows another rental, or the list. */
export function show(rental: string): void {
  location.hash = rental
}

async function redeem(token: string): Promise<Session | 'none'> {
  const response = await fetch('/session', {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-gpulease-console': '1' },
    body: JSON.stringify({ token }),
  })
  // a link that was used already is no reason to throw out whoever used it
  if (!response.ok) return stored()
  const started = (await response.json()) as Session
  localStorage.setItem(STORED, JSON.stringify(started))
  return started
}

function stored(): Session | 'none' {
  const text = localStorage.getItem(STORED)
  return text === null ? 'none' : (JSON.parse(text) as Session)
}

/** Follows the address bar. A token vanishes from it, and from the history, before anything else happens. */
export async function follow(): Promise<void> {
  const { token, rental } = read()
  shown.value = rental
  if (token !== null) {
    history.replaceState(null, '', `/#${rental}`)
    session.value = await redeem(token)
  } else if (session.value === undefined) {
    session.value = stored()
  }
}
