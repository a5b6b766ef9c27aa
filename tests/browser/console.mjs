// What the tests of the console share: a browser, ways into the console, and what can be read off its page.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { chromium } from 'playwright-core'

/** A command that prints a link into the console at a rental, as arguments in JSON. Each link works once. */
const LINK = JSON.parse(process.env.CONSOLE_LINK ?? 'null')
/** Process id of the daemon that serves it. */
const DAEMON = process.env.CONSOLE_DAEMON
/** Where pictures of the page are put; none are taken without. */
const PICTURES = process.env.CONSOLE_PICTURES
/** The longest that anything may take. */
export const SOON = 30_000

if (LINK === null) throw new Error('CONSOLE_LINK is not set: start the tests with tests/browser/run')

export function link() {
  return execFileSync(LINK[0], LINK.slice(1), { encoding: 'utf8' }).trim()
}

/** The daemon's memory, in bytes. */
export function memory() {
  const [, kilobytes] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${DAEMON}/status`, 'utf8'))
  return Number(kilobytes) * 1024
}

export async function launch() {
  // a browser run by root has no sandbox of its own
  const args = process.getuid() === 0 ? ['--no-sandbox'] : []
  // painted as text, which can be read off the page
  args.push('--disable-3d-apis')
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args })
}

/** A page of a new browser profile. Whatever the page complains about, above all a broken content security policy, is a fault. */
export async function fresh(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 760 }, locale: 'en-US', ...options })
  const page = await context.newPage()
  page.setDefaultTimeout(SOON)
  page.complaints = []
  page.on('pageerror', (error) => page.complaints.push(String(error)))
  page.on('console', (message) => {
    if (/content security policy/i.test(message.text())) page.complaints.push(message.text())
  })
  return page
}

/** A page that was let in and shows a shell, ready to be typed into. */
export async function enter(browser, options) {
  const page = await fresh(browser, options)
  await page.goto(link())
  await shell(page)
  return page
}

/** Waits until the shell in front is connected. */
export async function shell(page) {
  await page.locator('.panel:not([hidden]) .terminal-place[data-state="open"]').waitFor()
}

/** Opens one more shell, so that what other tests left on the screen is out of the way. */
export async function newShell(page) {
  const before = await page.locator('[role=tab][aria-selected=true]').getAttribute('id')
  await page.locator('.tabs > .picture-button').click()
  await page.waitForFunction((id) => document.querySelector('[role=tab][aria-selected=true]').id !== id, before)
  await shell(page)
  await until(page, (text) => /[#$>] *$/.test(text.trimEnd()))
  await run(page, 'PS1="ready> "; clear')
  await until(page, (text) => text.trim() === 'ready>')
}

/** What the terminal in front shows, line by line. */
export async function screen(page) {
  const lines = await page.locator('.panel:not([hidden]) .xterm-rows > div').allTextContents()
  return lines.map((line) => line.replaceAll('\u00a0', ' ').trimEnd()).join('\n')
}

export async function type(page, text) {
  await page.locator('.panel:not([hidden]) .xterm-helper-textarea').focus()
  await page.keyboard.type(text)
}

export async function run(page, command) {
  await type(page, command)
  await page.keyboard.press('Enter')
}

/** Waits until the terminal shows what is wanted, and gives its text. */
export async function until(page, wanted, limit = SOON) {
  const end = Date.now() + limit
  for (;;) {
    const text = await screen(page)
    if (wanted(text)) return text
    assert.ok(Date.now() < end, `not on the screen after ${limit} ms:\n${text}`)
    await page.waitForTimeout(20)
  }
}

/** What a command prints, between two marks that its own line does not contain. */
export async function output(page, command, limit = SOON) {
  const mark = Math.random().toString(36).slice(2, 8)
  await run(page, `clear; echo "<${mark.slice(0, 3)}""${mark.slice(3)}"; ${command}; echo "${mark.slice(0, 3)}""${mark.slice(3)}>"`)
  const text = await until(page, (text) => text.includes(`\n${mark}>`) || text.startsWith(`${mark}>`), limit)
  return text.slice(text.indexOf(`<${mark}`) + mark.length + 1, text.indexOf(`${mark}>`)).trim()
}

export async function picture(page, name) {
  if (PICTURES === undefined) return
  mkdirSync(PICTURES, { recursive: true })
  await page.screenshot({ path: `${PICTURES}/${name}.png` })
}

/** Shows the files. */
export async function files(page) {
  await page.locator('#tab-files').click()
  await page.locator('.browser').waitFor()
}

/** A request of the page's own making: what a script in it could do. */
export function request(page, method, path, body) {
  return page.evaluate(
    async ([method, path, body]) => {
      const { base } = JSON.parse(localStorage.getItem('session'))
      const headers = { 'x-gpulease-console': '1', 'content-type': 'application/json' }
      const response = await fetch(base + path, { method, headers, body: body && JSON.stringify(body) })
      return { status: response.status, text: await response.text() }
    },
    [method, path, body],
  )
}

/** The rental that the page shows. */
export async function rental(page) {
  return (await page.evaluate(() => location.hash)).slice(1)
}
