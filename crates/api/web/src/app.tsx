// Which page is shown, and what stands around each of them.
import { useComputed, useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { Rental } from './rental'
import { Rentals } from './rentals'
import { api, Refusal, type RentalRow, type WalletView } from './shared/api'
import { Dialogs } from './shared/dialog'
import { PictureButton } from './shared/icons'
import { KeysButton } from './shared/keys'
import { usePolling } from './shared/poll'
import { session, shown } from './shared/session'
import { choose, theme } from './shared/theme'
import { language, say, speak } from './shared/words'
import { reader } from './terminal/screen'

/** How often the figures are asked for. They come from the daemon's memory. */
const EVERY = 1_000
/** Balances come from the chain. */
const BALANCES_EVERY = 15_000

export function App() {
  useEffect(() => {
    document.documentElement.lang = language.value
  }, [language.value])
  return (
    <>
      {session.value === undefined ? null : session.value === 'none' ? <Denied /> : <Inside key={session.value.base} />}
      <Dialogs />
    </>
  )
}

function Inside() {
  const rentals = useSignal<RentalRow[] | undefined>(undefined)
  const wallets = useSignal<WalletView[]>([])
  const lost = useSignal(false)
  usePolling(
    async () => {
      try {
        rentals.value = await api.rentals()
        lost.value = false
      } catch (error) {
        lost.value = !(error instanceof Refusal)
      }
    },
    EVERY,
    'rentals',
  )
  usePolling(
    async () => {
      // an old balance is better than none
      wallets.value = await api.wallets().catch(() => wallets.value)
    },
    BALANCES_EVERY,
    'wallets',
  )
  const rental = useComputed(() => {
    const wanted = shown.value.replace(/^0x/, '').toLowerCase()
    return wanted === '' ? undefined : rentals.value?.find(({ id }) => id.slice(2).startsWith(wanted))
  })
  return (
    <div class="page">
      <Header rental={rental.value} />
      {lost.value && (
        <p class="notice warning" role="alert">
          <strong>{say('lostTitle')}</strong> {say('lostText')}
        </p>
      )}
      {rental.value ? (
        <Rental key={rental.value.id} rental={rental.value} wallets={wallets.value} />
      ) : (
        <Rentals rentals={rentals.value} wallets={wallets.value} />
      )}
    </div>
  )
}

function Header({ rental }: { rental: RentalRow | undefined }) {
  const next = { auto: 'light', light: 'dark', dark: 'auto' } as const
  const picture = { auto: 'auto', light: 'sun', dark: 'moon' } as const
  const chosen = { auto: say('themeAuto'), light: say('themeLight'), dark: say('themeDark') }
  const read = () => {
    reader.value = !reader.value
    localStorage.setItem('reader', reader.value ? 'on' : 'off')
  }
  return (
    <header class="header">
      <a class="brand" href="#" title={say('back')} aria-label={say('back')}>
        <img src="/icon.svg" alt="" width="22" height="22" />
        <span>gpulease</span>
      </a>
      {rental && (
        <h1 class="title">
          <span class={`dot phase-${rental.phase}`} />
          <span class="title-offer">{rental.offer}</span>
          <code title={rental.id}>{rental.id.slice(0, 10)}</code>
          <span class="phase">{rental.phase}</span>
        </h1>
      )}
      <nav class="tools" aria-label="gpulease">
        <KeysButton />
        <PictureButton of="reader" label={say('reader')} pressed={reader.value} onClick={read} />
        <PictureButton
          of={picture[theme.value]}
          label={`${say('theme')}: ${chosen[theme.value]}`}
          onClick={() => choose(next[theme.value])}
        />
        <button
          type="button"
          class="text-button"
          title={say('languageLabel')}
          onClick={() => speak(language.value === 'ko' ? 'en' : 'ko')}
        >
          {say('language')}
        </button>
      </nav>
    </header>
  )
}

function Denied() {
  return (
    <main class="denied">
      <img src="/icon.svg" alt="" width="48" height="48" />
      <h1>{say('deniedTitle')}</h1>
      <p>{say('deniedText')}</p>
      <pre>node console</pre>
    </main>
  )
}
