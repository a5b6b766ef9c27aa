// Light or dark: as the system, unless the reader has chosen.
import { signal } from '@preact/signals'
import { dark } from '../terminal/screen'

export type Theme = 'auto' | 'light' | 'dark'

const STORED = 'theme'
const system = matchMedia('(prefers-color-scheme: dark)')

export const theme = signal<Theme>((localStorage.getItem(STORED) as Theme | null) ?? 'auto')

export function choose(chosen: Theme): void {
  localStorage.setItem(STORED, chosen)
  theme.value = chosen
}

/** Has the page follow the choice and the system. */
export function followTheme(): void {
  const apply = () => {
    dark.value = theme.value === 'dark' || (theme.value === 'auto' && system.matches)
    document.documentElement.dataset['theme'] = dark.value ? 'dark' : 'light'
  }
  theme.subscribe(apply)
  system.addEventListener('change', apply)
}
