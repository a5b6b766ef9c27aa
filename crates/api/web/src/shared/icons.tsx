// The few pictures of the page: strokes on a grid of 20, in the colour of the text around them.
const PATHS = {
  plus: 'M10 4v12M4 10h12',
  close: 'M5 5l10 10M15 5L5 15',
  search: 'M9 3.5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11zM13 13l4 4',
  up: 'M5 12.5l5-5 5 5',
  down: 'M5 7.5l5 5 5-5',
  back: 'M12.5 5l-5 5 5 5',
  folder: 'M2.5 5.5a1 1 0 0 1 1-1h4l2 2h7a1 1 0 0 1 1 1v7a1 1 0 0 1-1 1h-13a1 1 0 0 1-1-1z',
  file: 'M5 2.5h6l4 4v11H5zM11 2.5v4h4',
  link: 'M8 12l4-4M7 9.5l-2 2a2.5 2.5 0 0 0 3.5 3.5l2-2M13 10.5l2-2A2.5 2.5 0 0 0 11.5 5l-2 2',
  download: 'M10 3v9m-4-3.5l4 4 4-4M4 16.5h12',
  upload: 'M10 13V4M6 7.5l4-4 4 4M4 16.5h12',
  edit: 'M4 16l.8-3.4L13.4 4l2.6 2.6-8.6 8.6z',
  remove: 'M4 5.5h12M8 5.5v-2h4v2M5.5 5.5l.7 11h7.6l.7-11',
  refresh: 'M16 10a6 6 0 1 1-1.8-4.3M16 3v3.5h-3.5',
  pause: 'M7 5v10M13 5v10',
  play: 'M7 4.5v11l8-5.5z',
  keyboard: 'M2.5 5.5h15v9h-15zM5.5 8.5h.01M8.5 8.5h.01M11.5 8.5h.01M14.5 8.5h.01M6.5 11.5h7',
  sun: 'M10 6.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7zM10 1.8v1.7M10 16.5v1.7M18.2 10h-1.7M3.5 10H1.8M15.8 4.2l-1.2 1.2M5.4 14.6l-1.2 1.2M15.8 15.8l-1.2-1.2M5.4 5.4L4.2 4.2',
  moon: 'M16 12.2A6.5 6.5 0 0 1 7.8 4a6.5 6.5 0 1 0 8.2 8.2z',
  auto: 'M10 3.5a6.5 6.5 0 1 1 0 13zM10 3.5a6.5 6.5 0 1 0 0 13',
  stop: 'M5.5 5.5h9v9h-9z',
  reader: 'M4 8v4h3l4 3V5L7 8zM13.5 7.5a4 4 0 0 1 0 5M15.5 5.5a7 7 0 0 1 0 9',
} as const

export type Icon = keyof typeof PATHS

export function Picture({ of }: { of: Icon }) {
  return (
    <svg class="picture" viewBox="0 0 20 20" aria-hidden="true">
      <path d={PATHS[of]} />
    </svg>
  )
}

interface ButtonProps {
  of: Icon
  label: string
  onClick: () => void
  disabled?: boolean
  pressed?: boolean
}

/** A button that is a picture; what it does is told to those who point at it and those who hear it. */
export function PictureButton({ of, label, onClick, disabled, pressed }: ButtonProps) {
  const state = pressed === undefined ? {} : { 'aria-pressed': pressed }
  return (
    <button type="button" class="picture-button" title={label} aria-label={label} disabled={disabled ?? false} onClick={onClick} {...state}>
      <Picture of={of} />
    </button>
  )
}
