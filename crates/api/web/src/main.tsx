// The web console. It is the first page of the dashboard to come, so what every page needs stands in shared/: the session, the requests and
// their records, the languages, the dialogs.
import '@xterm/xterm/css/xterm.css'
import './style.css'
import { render } from 'preact'
import { App } from './app'
import { follow } from './shared/session'
import { followTheme } from './shared/theme'
import { allowScriptedStyles } from './terminal/styles'

allowScriptedStyles()
followTheme()
window.addEventListener('hashchange', () => void follow())
void follow()
render(<App />, document.getElementById('console')!)
