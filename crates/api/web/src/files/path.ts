// Paths on the machine.

export function join(folder: string, name: string): string {
  return folder.endsWith('/') ? folder + name : `${folder}/${name}`
}

export function parent(folder: string): string {
  return folder.slice(0, folder.lastIndexOf('/')) || '/'
}

/** A folder and those around it, from the outermost on. */
export function steps(folder: string): { name: string; path: string }[] {
  const names = folder.split('/').filter((name) => name !== '')
  return [{ name: '/', path: '/' }, ...names.map((name, index) => ({ name, path: `/${names.slice(0, index + 1).join('/')}` }))]
}
