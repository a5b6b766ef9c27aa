// All rentals, to choose one.
import type { RentalRow, WalletView } from './shared/api'
import { duration } from './shared/amounts'
import { say } from './shared/words'

/** Decimals of an amount that are shown. */
const DECIMALS = 6

/** An amount without the digits that nobody reads; it is cut, not rounded, so that it never promises more than there is. */
function short(amount: string): string {
  return amount.replace(new RegExp(`(\\.\\d{${DECIMALS}})\\d+`), '$1')
}

export function balances(wallets: WalletView[]): string[] {
  return wallets.flatMap((wallet) => wallet.balances.map(({ shown }) => short(shown)))
}

export function timeLeft(rental: RentalRow): string {
  if (rental.ends_at == null) return say('never')
  const seconds = (rental.ends_at - Date.now()) / 1000
  return seconds > 0 ? duration(seconds) : say('ended')
}

export function Rentals({ rentals, wallets }: { rentals: RentalRow[] | undefined; wallets: WalletView[] }) {
  return (
    <main class="rentals">
      <div class="rentals-head">
        <h1>{say('rentals')}</h1>
        <p class="quiet">
          {say('balance')} <strong>{balances(wallets).join(' · ') || '–'}</strong>
        </p>
      </div>
      {rentals === undefined ? (
        <p class="quiet">{say('loading')}</p>
      ) : rentals.length === 0 ? (
        <div class="empty">
          <p>{say('noRentals')}</p>
          <p class="quiet">
            {say('noRentalsHint')} <code>node rent</code>
          </p>
        </div>
      ) : (
        <ul class="cards">
          {rentals.map((rental) => (
            <li key={rental.id}>
              <a class="card" href={`#${rental.id}`}>
                <span class="card-title">
                  <span class={`dot phase-${rental.phase}`} />
                  {rental.offer}
                </span>
                <span class="quiet">
                  <code>{rental.id.slice(0, 10)}</code> · {rental.phase}
                </span>
                <span class="card-figures">
                  <span>
                    <small>{say('cost')}</small>
                    {rental.cost}
                  </span>
                  <span>
                    <small>{say('timeLeft')}</small>
                    {timeLeft(rental)}
                  </span>
                </span>
              </a>
            </li>
          ))}
        </ul>
      )}
    </main>
  )
}
