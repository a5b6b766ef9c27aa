// Who gets in, and what the address bar, scripts and other pages see of it.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { after, before, test } from 'node:test'
import { enter, fresh, launch, link, picture, rental, request, shell } from './console.mjs'

let browser
before(async () => (browser = await launch()))
after(() => browser.close())

test('a link opens the console, and its token is gone from the address bar and the history', async () => {
  const page = await fresh(browser)
  const opened = link()
  await page.goto(opened)
  await shell(page)
  const token = /token=([^&]+)/.exec(opened)[1]
  assert.ok(!page.url().includes(token) && !page.url().includes('token'), page.url())
  assert.equal(await page.evaluate(() => history.length), 2, 'about:blank and the console')
  assert.equal(await page.evaluate(() => document.cookie), '', 'no script sees the cookie')
  const [cookie] = await page.context().cookies(`${new URL(opened).origin}${await base(page)}/`)
  assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, 'Strict'])
  assert.deepEqual(page.complaints, [])
  await picture(page, 'terminal')
})

const base = (page) => page.evaluate(() => JSON.parse(localStorage.getItem('session')).base)

test('a link that was used lets nobody else in, and says so', async () => {
  const page = await fresh(browser)
  const opened = link()
  await page.goto(opened)
  await shell(page)
  const other = await fresh(browser)
  await other.goto(opened)
  await other.locator('.denied').waitFor()
  await picture(other, 'denied')
})

test('another profile of the browser gets nothing, though it knows the path', async () => {
  const page = await enter(browser)
  const [origin, path] = [new URL(page.url()).origin, await base(page)]
  const other = await fresh(browser)
  await other.goto(origin)
  await other.locator('.denied').waitFor()
  const answer = await other.evaluate(async (url) => (await fetch(url)).status, `${origin}${path}/rentals`)
  assert.equal(answer, 403)
})

test('a page of another origin reads nothing, changes nothing and opens no websocket', async () => {
  const page = await enter(browser)
  const [origin, path, id] = [new URL(page.url()).origin, await base(page), await rental(page)]
  const terminals = JSON.parse((await request(page, 'GET', `/rentals/${id}/terminals`)).text)
  const server = createServer((_, response) => response.setHeader('content-type', 'text/html').end('<p>hello'))
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening))
  try {
    // the same profile, the same host, another port: the browser calls that the same site
    const evil = await page.context().newPage()
    await evil.goto(`http://127.0.0.1:${server.address().port}/`)
    const tried = await evil.evaluate(
      async ([url, id, terminal]) => {
        const read = await fetch(`${url}/rentals`, { credentials: 'include' }).then((r) => r.text(), () => 'nothing')
        const changed = await fetch(`${url}/rentals/${id}/stop`, {
          method: 'POST',
          credentials: 'include',
          headers: { 'x-gpulease-console': '1' },
        }).then((r) => r.status, () => 'nothing')
        const simple = await fetch(`${url}/rentals/${id}/stop`, { method: 'POST', credentials: 'include', mode: 'no-cors' }).then((r) => r.type, () => 'nothing')
        const socket = new WebSocket(`${url.replace('http', 'ws')}/rentals/${id}/terminals/${terminal}/stream`)
        const opened = await new Promise((told) => {
          socket.onopen = () => told('opened')
          socket.onerror = () => told('nothing')
        })
        const framed = document.createElement('iframe')
        framed.src = new URL(url).origin
        document.body.append(framed)
        await new Promise((loaded) => (framed.onload = loaded))
        return { read, changed, simple, opened }
      },
      [origin + path, id, terminals[0].id],
    )
    assert.deepEqual(tried, { read: 'nothing', changed: 'nothing', simple: 'nothing', opened: 'nothing' })
    const frame = evil.frames()[1]
    assert.equal(await frame.evaluate(() => document.getElementById('console')).catch(() => null), null, 'framed')
    await page.bringToFront()
    const still = JSON.parse((await request(page, 'GET', '/rentals')).text)
    assert.ok(still.some((row) => row.id === id && row.phase === 'serving'), 'the rental goes on')
  } finally {
    server.closeAllConnections()
    server.close()
  }
})

test('a name that points at this machine is not the console', async () => {
  const page = await enter(browser)
  const url = new URL(page.url())
  const other = await page.context().newPage()
  const answer = await other.goto(`http://localhost:${url.port}/`)
  assert.equal(answer.status(), 403)
})
