// One rental: its terminals and its files, and beside them what it costs and uses.
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { Browser } from './files/browser'
import { balances, timeLeft } from './rentals'
import { duration } from './shared/amounts'
import type { RentalRow, WalletView } from './shared/api'
import { PictureButton, Picture } from './shared/icons'
import { say } from './shared/words'
import { askToStop } from './stopping'
import { Shells } from './terminal/shells'
import { TabBar } from './terminal/tabs'
import { Pane } from './terminal/pane'
import { Usage } from './usage'

/** Phases in which the machine can be used. */
const USABLE = ['serving', 'frozen']
/** The tab of the files; the others are shells, by their ids. */
export const FILES = 'files'

export function Rental({ rental, wallets }: { rental: RentalRow; wallets: WalletView[] }) {
  const usable = USABLE.includes(rental.phase)
  return (
    <div class="rental">
      <main class="work">{usable ? <Work rental={rental} /> : <p class="empty">{say('onlyServing', { phase: rental.phase })}</p>}</main>
      <Side rental={rental} wallets={wallets} usable={usable} />
    </div>
  )
}

function Work({ rental }: { rental: RentalRow }) {
  const shells = useSignal<Shells | undefined>(undefined)
  useEffect(() => {
    const opened = new Shells(rental.id)
    shells.value = opened
    void opened.start()
    return () => opened.close()
  }, [rental.id])
  if (shells.value === undefined) return null
  const { chosen, list } = shells.value
  return (
    <>
      <TabBar shells={shells.value} />
      {list.value.map((shell) => (
        <Pane key={shell.id} shell={shell} shells={shells.value!} shown={chosen.value === shell.id} />
      ))}
      {list.value.length === 0 && chosen.value !== FILES && (
        <div class="empty">
          <p>{say('noShells')}</p>
          <button type="button" class="button primary" onClick={() => void shells.value!.open()}>
            {say('newShell')}
          </button>
        </div>
      )}
      <section id="panel-files" role="tabpanel" aria-labelledby="tab-files" class="panel" hidden={chosen.value !== FILES}>
        {chosen.value === FILES && <Browser rental={rental} />}
      </section>
    </>
  )
}

interface SideProps {
  rental: RentalRow
  wallets: WalletView[]
  usable: boolean
}

function Side({ rental, wallets, usable }: SideProps) {
  const open = useSignal(false)
  return (
    <aside class={open.value ? 'side open' : 'side'} aria-label={say('usage')}>
      <dl class="figures">
        <Figure label={say('cost')} value={rental.cost} large />
        <Figure label={say('timeLeft')} value={timeLeft(rental)} large />
        <Figure label={say('balance')} value={balances(wallets).join('\n') || '–'} />
        <Figure label={say('deposit')} value={rental.deposit} extra />
        <Figure label={say('metered')} value={duration(rental.seconds)} extra />
      </dl>
      <div class="side-more">
        <PictureButton of={open.value ? 'up' : 'down'} label={say('usage')} pressed={open.value} onClick={() => (open.value = !open.value)} />
      </div>
      <div class="side-rest">
        {rental.warning && <p class="notice warning">{rental.warning}</p>}
        {usable && <Usage rental={rental.id} />}
        <button type="button" class="button danger wide" disabled={!usable} onClick={() => void askToStop(rental)}>
          <Picture of="stop" />
          {say('stop')}
        </button>
        <a class="quiet small" href="/licences.txt" target="_blank" rel="noreferrer">
          {say('licences')}
        </a>
      </div>
    </aside>
  )
}

interface FigureProps {
  label: string
  value: string
  large?: boolean
  extra?: boolean
}

function Figure({ label, value, large, extra }: FigureProps) {
  const kind = ['figure', large && 'large', extra && 'extra'].filter(Boolean).join(' ')
  return (
    <div class={kind}>
      <dt>{label}</dt>
      <dd>{value}</dd>
    </div>
  )
}
