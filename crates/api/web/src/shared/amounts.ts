// Numbers as people read them.
import { language, say } from './words'

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB']

export function bytes(amount: number): string {
  let unit = 0
  while (amount >= 1024 && unit < UNITS.length - 1) {
    amount /= 1024
    unit += 1
  }
  return `${amount.toFixed(unit === 0 || amount >= 100 ? 0 : 1)} ${UNITS[unit]}`
}

/** A length of time, in its two largest units. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds))
  const [days, hours, minutes] = [Math.floor(whole / 86_400), Math.floor(whole / 3_600) % 24, Math.floor(whole / 60) % 60]
  if (days > 0) return `${say('days', { n: days })} ${say('hours', { n: hours })}`
  if (hours > 0) return `${say('hours', { n: hours })} ${say('minutes', { n: minutes })}`
  if (minutes > 0) return `${say('minutes', { n: minutes })} ${say('seconds', { n: whole % 60 })}`
  return say('seconds', { n: whole })
}

/** A moment, by the reader's clock: the time alone if it was today. */
export function moment(milliseconds: number): string {
  const date = new Date(milliseconds)
  const today = date.toDateString() === new Date().toDateString()
  const style: Intl.DateTimeFormatOptions = today ? { timeStyle: 'short' } : { dateStyle: 'medium', timeStyle: 'short' }
  return new Intl.DateTimeFormat(language.value, style).format(date)
}
