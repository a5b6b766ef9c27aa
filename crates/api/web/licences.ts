// Writes the licences of what the script was bundled from beside it: they ask to be passed on with it.
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Plugin } from 'vite'

/** The folder of the package that a module belongs to. */
function packageOf(module: string): string | undefined {
  if (!module.includes('/node_modules/')) return undefined
  for (let folder = dirname(module); !folder.endsWith('/node_modules'); folder = dirname(folder)) {
    const description = join(folder, 'package.json')
    if (existsSync(description) && JSON.parse(readFileSync(description, 'utf8')).version) return folder
  }
  return undefined
}

function licenceOf(folder: string): string {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry))
  const text = file ? readFileSync(join(folder, file), 'utf8').trim() : 'No text of the licence comes with it.'
  return `${name} ${version} (${license})\n\n${text}\n`
}

export function licences(fileName: string): Plugin {
  return {
    name: 'licences',
    generateBundle(_options, bundle) {
      const modules = Object.values(bundle).flatMap((part) => (part.type === 'chunk' ? part.moduleIds : []))
      const folders = new Set(modules.map((id) => packageOf(id.split('?')[0]!)).filter((folder) => folder !== undefined))
      const source = [...folders].map(licenceOf).sort().join(`\n${'-'.repeat(80)}\n\n`)
      this.emitFile({ type: 'asset', fileName, source })
    },
  }
}
