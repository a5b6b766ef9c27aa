// Requests to the daemon. The records are those of its OpenAPI description (schema.d.ts is generated from it); every path begins with the
// session's own, and every change carries the header that no other page can send.
import { session, type Session } from './session'
import type { components } from './schema'

type Schemas = components['schemas']
export type NodeInfo = Schemas['NodeInfo']
export type RentalRow = Schemas['RentalRow']
export type RentalStory = Schemas['RentalStory']
export type WalletView = Schemas['WalletView']
export type UsagePage = Schemas['UsagePage']
export type UsageSample = Schemas['UsageSample']
export type TerminalRow = Schemas['TerminalRow']
export type Folder = Schemas['Folder']
export type FolderEntry = Schemas['FolderEntry']
export type UploadState = Schemas['UploadState']
export type ApiError = Schemas['ApiError']

/** The header by which the daemon knows that its own page asks. */
export const OURS = { 'x-gpulease-console': '1' }

/** An answer that says no. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly error: ApiError,
  ) {
    super(error.next ? `${error.message} (${error.next})` : error.message)
  }
}

/** No answer at all. */
export class Unreachable extends Error {}

type Values = Record<string, string | number | boolean>

/** The address of something of a rental. */
export function address(path: string, values: Values = {}): string {
  const query = new URLSearchParams(Object.entries(values).map(([name, value]) => [name, String(value)]))
  const text = query.toString()
  return `${(session.value as Session).base}${path}${text && `?${text}`}`
}

export async function ask(method: string, url: string, init: RequestInit = {}): Promise<Response> {
  let response: Response
  try {
    response = await fetch(url, { ...init, method, headers: { ...OURS, ...init.headers }, credentials: 'same-origin' })
  } catch (error) {
    if (init.signal?.aborted) throw error
    throw new Unreachable(String(error))
  }
  if (response.ok) return response
  const error = await response.json().catch(() => ({ kind: 'failed', message: response.statusText, next: '' }))
  if (response.status === 403 && session.value !== 'none') session.value = 'none'
  throw new Refusal(response.status, error as ApiError)
}

async function get<T>(path: string, values?: Values): Promise<T> {
  return (await ask('GET', address(path, values))).json() as Promise<T>
}

async function post<T>(path: string, body?: unknown): Promise<T> {
  const init = body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
  const response = await ask('POST', address(path), init)
  return (response.status === 204 ? undefined : await response.json()) as T
}

export const api = {
  wallets: () => get<WalletView[]>('/wallets'),
  rentals: () => get<RentalRow[]>('/rentals'),
  story: (rental: string) => get<RentalStory>(`/rentals/${rental}`),
  stop: (rental: string) => post<RentalRow>(`/rentals/${rental}/stop`),
  usage: (rental: string, from: number) => get<UsagePage>(`/rentals/${rental}/usage`, { from }),
  terminals: (rental: string) => get<TerminalRow[]>(`/rentals/${rental}/terminals`),
  openTerminal: (rental: string, columns: number, rows: number) =>
    post<TerminalRow>(`/rentals/${rental}/terminals`, { columns, rows }),
  closeTerminal: (rental: string, terminal: string) => ask('DELETE', address(`/rentals/${rental}/terminals/${terminal}`)),
  folder: (rental: string, path: string) => get<Folder>(`/rentals/${rental}/files`, { path }),
  makeFolder: (rental: string, path: string) => post<void>(`/rentals/${rental}/files/folder`, { path }),
  rename: (rental: string, from: string, to: string) => post<void>(`/rentals/${rental}/files/rename`, { from, to }),
  remove: (rental: string, path: string) => post<void>(`/rentals/${rental}/files/remove`, { path }),
  content: (rental: string, path: string) => address(`/rentals/${rental}/files/content`, { path }),
}
