// One script, one style sheet and one page, under names that the daemon knows: they are embedded into it (crates/api/src/console/assets.rs).
import { defineConfig } from 'vite'
import { licences } from './licences.ts'

export default defineConfig({
  base: '/',
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  plugins: [licences('licences.txt')],
  build: {
    target: 'es2022',
    modulePreload: false,
    // nothing is put into the page's text: the content security policy would not let it run
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    chunkSizeWarningLimit: 1024,
    rollupOptions: {
      output: { entryFileNames: 'console.js', assetFileNames: 'console[extname]', codeSplitting: false },
    },
  },
})
