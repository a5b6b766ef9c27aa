// Shells: what is typed, what is shown, and what survives.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { enter, launch, memory, newShell, output, picture, run, screen, shell, SOON, type, until } from './console.mjs'

let browser
let page
before(async () => {
  browser = await launch()
  page = await enter(browser)
})
after(async () => {
  assert.deepEqual(page.complaints, [])
  await browser.close()
})

test('a shell answers', async () => {
  await newShell(page)
  assert.equal(await output(page, 'echo $((6 * 7)) 결과 ✓'), '42 결과 ✓')
})

test('the shell knows the size of the window, and hears when it changes', async () => {
  await newShell(page)
  const wide = (await output(page, 'stty size')).split(' ').map(Number)
  await page.setViewportSize({ width: 900, height: 560 })
  await until(page, (text) => text.length > 0)
  await page.waitForFunction((rows) => document.querySelectorAll('.panel:not([hidden]) .xterm-rows > div').length < rows, wide[0])
  const small = (await output(page, 'stty size')).split(' ').map(Number)
  assert.ok(small[0] < wide[0] && small[1] < wide[1], `${wide} → ${small}`)
  await page.setViewportSize({ width: 1200, height: 760 })
})

test('a page that is loaded anew finds its shell, and what was on the screen', async () => {
  await newShell(page)
  await run(page, 'MARK=kept; echo before the re""load')
  await until(page, (text) => text.includes('before the reload'))
  await page.reload()
  await shell(page)
  await until(page, (text) => text.includes('before the reload'))
  await run(page, 'echo "$MARK"-after')
  await until(page, (text) => text.includes('kept-after'))
})

test('a program that asks the terminal is not answered again by a page that is loaded anew', async () => {
  await newShell(page)
  // asks where the cursor is, and shows the answer
  await run(page, String.raw`read -rsdR -p $'\e[6n' where; echo "${'$'}{where#*[}" is where`)
  await until(page, (text) => / is where/.test(text))
  await page.reload()
  await shell(page)
  await until(page, (text) => / is where/.test(text))
  assert.equal(await output(page, 'echo clean'), 'clean')
})

test('what is in another window is not lost: it takes the shell over, and can be had back', async () => {
  await newShell(page)
  const other = await page.context().newPage()
  await other.goto(page.url())
  await shell(other)
  await page.getByText('This shell is shown in another window.').waitFor()
  await other.close()
  await page.getByRole('button', { name: 'Show it here' }).click()
  await shell(page)
  assert.equal(await output(page, 'echo back'), 'back')
})

test('yes for ten seconds leaves the page alive and the daemon small, and Ctrl-C is heard within half a second', async () => {
  await newShell(page)
  const before = memory()
  let most = 0
  await run(page, `bash -c 'trap "date +%s%3N; exit" INT; yes'`)
  const end = Date.now() + 10_000
  while (Date.now() < end) {
    const asked = Date.now()
    await page.evaluate(() => new Promise((painted) => requestAnimationFrame(painted)))
    assert.ok(Date.now() - asked < 2_000, 'the page hangs')
    most = Math.max(most, memory())
    await page.waitForTimeout(200)
  }
  assert.ok(most - before < 64 << 20, `the daemon grew by ${(most - before) >> 20} MiB`)
  const pressed = Date.now()
  await page.keyboard.press('Control+c')
  const text = await until(page, (text) => /\d{13}\n+ready> *$/m.test(text))
  const shown = Date.now() - pressed
  const heard = Number(/(\d{13})$/m.exec(text)[1]) - pressed
  console.log(`Ctrl-C: heard after ${heard} ms, the prompt shown after ${shown} ms; the daemon grew by ${((most - before) / (1 << 20)).toFixed(1)} MiB`)
  assert.ok(heard < 500, `heard after ${heard} ms`)
})

test('a long paste arrives whole, and no faster than the program reads', async () => {
  await newShell(page)
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write'])
  const line = 'x'.repeat(99)
  await page.evaluate((text) => navigator.clipboard.writeText(text), `${line}\n`.repeat(10_000))
  await run(page, 'stty -echo; echo rea""dy; head -c 1000000 | (sleep 2; sha256sum); stty echo')
  await until(page, (text) => /^ready$/m.test(text))
  await page.keyboard.press('Control+Shift+v')
  const { createHash } = await import('node:crypto')
  const hash = createHash('sha256').update(`${line}\n`.repeat(10_000)).digest('hex')
  await until(page, (text) => text.includes(hash), 2 * SOON)
})

test('what is selected is copied with Ctrl-Shift-C, and no program reaches the clipboard', async () => {
  await newShell(page)
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write'])
  await page.evaluate(() => navigator.clipboard.writeText('mine'))
  await run(page, String.raw`printf '\e]52;c;aGFja2Vk\a'; echo copy""me`)
  await until(page, (text) => text.includes('copyme\n'))
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), 'mine')
  const row = page.locator('.panel:not([hidden]) .xterm-rows > div', { hasText: /^copyme$/ })
  const box = await row.boundingBox()
  await page.mouse.dblclick(box.x + 12, box.y + box.height / 2)
  await page.keyboard.press('Control+Shift+c')
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), 'copyme')
})

test('output is searched', async () => {
  await newShell(page)
  await run(page, 'seq 1000; echo need""le')
  await until(page, (text) => text.includes('needle\n'))
  await page.keyboard.press('Control+Shift+f')
  await page.getByPlaceholder('Search the output').fill('needle')
  const status = page.locator('.search [role=status]')
  assert.equal(await status.textContent(), '')
  await picture(page, 'search')
  await page.getByPlaceholder('Search the output').fill('haystack')
  await status.getByText('not found').waitFor()
  await page.keyboard.press('Escape')
  await type(page, '\n')
})

test('colours of all kinds are painted under the strict policy', async () => {
  await newShell(page)
  await run(page, String.raw`clear; printf '\e[38;2;255;128;0mtruecolour\e[0m \e[32mgreen\e[0m\n'`)
  await until(page, (text) => text.startsWith('truecolour green'))
  const colour = (text) =>
    page.locator('.panel:not([hidden]) .xterm-rows span', { hasText: text }).first().evaluate((span) => getComputedStyle(span).color)
  const [orange, green] = [await colour('truecolour'), await colour('green')]
  const plain = await page.evaluate(() => getComputedStyle(document.querySelector('.xterm-rows')).color)
  assert.ok(orange !== plain && green !== plain && orange !== green, `${orange} ${green} ${plain}`)
})

test('several shells are kept apart, and one that ended says how', async () => {
  await newShell(page)
  await run(page, 'WHO=first')
  await newShell(page)
  assert.equal(await output(page, 'echo "[$WHO]"'), '[]')
  await run(page, 'exit 3')
  await page.getByText('This shell has ended: exited with 3.').waitFor()
  assert.ok((await screen(page)).includes('exit 3'))
  await page.locator('.panel:not([hidden]) .terminal-word button').click()
  assert.equal(await output(page, 'echo "[$WHO]"'), '[first]')
})
