// Asking again and again, as long as somebody looks.
import { useEffect } from 'preact/hooks'

/** Calls `ask` now and then `every` so many milliseconds after it has finished, while the page is shown. */
export function usePolling(ask: () => Promise<void>, every: number, key: string): void {
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined
    let asking = false
    let over = false
    const round = async () => {
      if (asking || over) return
      clearTimeout(timer)
      asking = true
      if (!document.hidden) await ask()
      asking = false
      if (!over) timer = setTimeout(() => void round(), every)
    }
    const seen = () => void round()
    void round()
    document.addEventListener('visibilitychange', seen)
    return () => {
      over = true
      clearTimeout(timer)
      document.removeEventListener('visibilitychange', seen)
    }
  }, [key])
}
