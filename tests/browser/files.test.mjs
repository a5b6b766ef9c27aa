// Files: up, down, and never out of the sandbox.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { createReadStream, createWriteStream, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { enter, files, launch, newShell, output, picture, rental, request, run, shell, until } from './console.mjs'

/** Bytes of the upload: a gigabyte in a deep run. */
const SIZE = Number(process.env.CONSOLE_UPLOAD ?? 96 << 20)
const LONG = 600_000

let browser
let page
let folder
before(async () => {
  browser = await launch()
  page = await enter(browser)
  folder = mkdtempSync(join(tmpdir(), 'console-'))
})
after(async () => {
  rmSync(folder, { recursive: true })
  assert.deepEqual(page.complaints, [])
  await browser.close()
})

/** A file that does not compress and has no piece twice, and its hash. */
async function big(path) {
  const [hash, out] = [createHash('sha256'), createWriteStream(path)]
  const block = randomBytes(1 << 20)
  for (let at = 0; at < SIZE; at += block.length) {
    block.writeUInt32BE(at >>> 10)
    const piece = Buffer.from(block.subarray(0, Math.min(block.length, SIZE - at)))
    hash.update(piece)
    if (!out.write(piece)) await new Promise((drained) => out.once('drain', drained))
  }
  await new Promise((closed) => out.end(closed))
  return hash.digest('hex')
}

async function hashOf(path) {
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path)) hash.update(piece)
  return hash.digest('hex')
}

const upload = (page, path) => page.locator('input[type=file]').setInputFiles(path)

test('an upload that breaks off goes on where it was, and arrives whole', { timeout: LONG }, async () => {
  const path = join(folder, 'big.bin')
  const hash = await big(path)
  await files(page)
  await upload(page, path)
  await page.waitForFunction(() => Number(document.querySelector('.upload progress')?.value) > 0, undefined, { timeout: LONG })
  // everything that the page knows goes with it
  await page.reload()
  await shell(page)
  await files(page)
  const pieces = []
  page.on('request', (asked) => {
    if (asked.method() === 'PUT') pieces.push(Number(new URL(asked.url()).searchParams.get('offset')))
  })
  await upload(page, path)
  await page.locator('.upload[data-state=sending]').waitFor()
  await picture(page, 'upload')
  await page.locator('.upload[data-state=done]').waitFor({ timeout: LONG })
  assert.ok(Math.min(...pieces) > 0, `it began again: ${pieces[0]}`)
  await newShell(page)
  assert.equal((await output(page, 'sha256sum big.bin | cut -c1-64', LONG)).trim(), hash)
  assert.equal(await output(page, 'ls -a | grep -c part'), '0', 'nothing is left over')
})

test('a download arrives whole, and can be had in parts', { timeout: LONG }, async () => {
  await files(page)
  const begun = page.waitForEvent('download')
  await page.getByRole('button', { name: 'big.bin', exact: true }).click()
  const download = await begun
  const path = join(folder, 'down.bin')
  await download.saveAs(path)
  assert.equal(download.suggestedFilename(), 'big.bin')
  assert.equal(await hashOf(path), await hashOf(join(folder, 'big.bin')))
  const id = await rental(page)
  const part = await page.evaluate(async (id) => {
    const { base } = JSON.parse(localStorage.getItem('session'))
    const url = `${base}/rentals/${id}/files/content?path=/job/big.bin`
    const first = await fetch(url, { headers: { range: 'bytes=1000000-1000099' } })
    const [tag, range, bytes] = [first.headers.get('etag'), first.headers.get('content-range'), new Uint8Array(await first.arrayBuffer())]
    const other = await fetch(url, { headers: { range: 'bytes=0-9', 'if-range': '"other"' }, method: 'HEAD' })
    const same = await fetch(url, { headers: { range: 'bytes=0-9', 'if-range': tag } })
    return { status: first.status, range, bytes: Array.from(bytes), changed: other.status, same: same.status }
  }, id)
  const wanted = Array.from(readFileSync(path).subarray(1_000_000, 1_000_100))
  assert.deepEqual(part, { status: 206, range: `bytes 1000000-1000099/${SIZE}`, bytes: wanted, changed: 200, same: 206 })
})

test('files are dropped, renamed and removed, and folders made', async () => {
  await files(page)
  const data = await page.evaluateHandle(() => {
    const data = new DataTransfer()
    data.items.add(new File(['dropped'], 'dropped 파일.txt', { lastModified: 1_600_000_000_000 }))
    data.items.add(new File([], 'empty'))
    return data
  })
  await page.dispatchEvent('.browser', 'drop', { dataTransfer: data })
  await page.getByRole('button', { name: 'dropped 파일.txt', exact: true }).waitFor()
  await page.getByRole('button', { name: 'empty', exact: true }).waitFor()
  await page.getByRole('button', { name: 'Rename dropped 파일.txt' }).click()
  await page.getByLabel('New name').fill('renamed.txt')
  await page.keyboard.press('Enter')
  await page.getByRole('button', { name: 'renamed.txt', exact: true }).waitFor()
  await page.getByRole('button', { name: 'New folder' }).click()
  await page.getByLabel('Name of the folder').fill('made')
  await page.keyboard.press('Enter')
  await page.getByRole('button', { name: 'made', exact: true }).click()
  await page.getByText('This folder is empty').waitFor()
  await page.getByRole('button', { name: 'Parent folder' }).click()
  await page.getByRole('button', { name: 'made', exact: true }).waitFor()
  await picture(page, 'files')
  for (const name of ['made', 'empty']) {
    await page.getByRole('button', { name: `Remove ${name}` }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click()
    await page.getByRole('button', { name, exact: true }).waitFor({ state: 'detached' })
  }
  await newShell(page)
  assert.equal(await output(page, 'cat renamed.txt; stat -c " %Y" renamed.txt; ls -d made empty 2>/dev/null | wc -l'), 'dropped 1600000000\n0')
})

test('no path and no link leads to the machine around the sandbox', async () => {
  const secret = join(folder, 'secret')
  writeFileSync(secret, 'the host said this')
  const id = await rental(page)
  await newShell(page)
  await output(page, `ln -sfn ${secret} link; ln -sfn ${folder} around; ln -sfn / top; ln -sfn /proc/1/root/${folder} out; echo linked`)
  const up = '../'.repeat(12)
  const paths = [secret, `/job/${up}${secret}`, '/job/link', '/job/around/secret', `/job/top${secret}`, '/job/out/secret', `/proc/1/root${secret}`, `/proc/self/cwd/${up}${secret}`]
  for (const path of paths) {
    const answer = await request(page, 'GET', `/rentals/${id}/files/content?path=${encodeURIComponent(path)}`)
    assert.notEqual(answer.status, 200, path)
    assert.ok(!answer.text.includes('the host said this'), path)
  }
  for (const path of [`${folder}/planted`, `/job/${up}${folder}/planted`, '/job/around/planted', '/job/out/planted']) {
    await request(page, 'POST', `/rentals/${id}/files/folder`, { path })
    assert.ok(!existsSync(join(folder, 'planted')), path)
  }
  for (const path of [secret, '/job/around/secret', '/job/out/secret']) {
    await request(page, 'POST', `/rentals/${id}/files/remove`, { path })
    assert.ok(existsSync(secret), path)
  }
  // what /etc/passwd is in there is the sandbox's own affair
  const passwd = await request(page, 'GET', `/rentals/${id}/files/content?path=${encodeURIComponent(`/job/${up}etc/passwd`)}`)
  const inside = await output(page, 'cat /etc/passwd 2>/dev/null | sha256sum | cut -c1-64')
  if (passwd.status === 200) assert.equal(createHash('sha256').update(passwd.text).digest('hex'), inside)
  const shadow = await request(page, 'GET', `/rentals/${id}/files/content?path=${encodeURIComponent(`/job/${up}etc/shadow`)}`)
  assert.notEqual(shadow.status, 200)
})

test('a rental is ended only after the question, which names what was not downloaded', async () => {
  await newShell(page)
  await run(page, 'echo result > result.txt; echo wri""tten')
  await until(page, (text) => text.includes('written\n'))
  await page.getByRole('button', { name: 'End rental' }).click()
  const question = page.getByRole('dialog')
  await question.getByText('result.txt').waitFor()
  await picture(page, 'stop')
  await question.getByRole('button', { name: 'Cancel' }).click()
  assert.equal(await output(page, 'echo still here'), 'still here')
})
