// The uploads under way, below the folder.
import { bytes } from '../shared/amounts'
import { PictureButton } from '../shared/icons'
import { say } from '../shared/words'
import { dismiss, resume, uploads, type Upload } from './upload'

export function Uploads({ rental }: { rental: string }) {
  const ours = uploads.value.filter((upload) => upload.rental === rental)
  if (ours.length === 0) return null
  return (
    <section class="uploads" aria-label={say('uploads')}>
      {ours.map((upload) => (
        <Row key={upload.path} upload={upload} />
      ))}
    </section>
  )
}

function Row({ upload }: { upload: Upload }) {
  const { name, file } = upload
  const progress = upload.progress.value
  const sent = 'sent' in progress ? progress.sent : 0
  const under = progress.kind === 'sending' || progress.kind === 'checking' || progress.kind === 'waiting'
  return (
    <div class="upload" data-state={progress.kind}>
      <div class="upload-head">
        <span class="upload-name" title={upload.path}>
          {name}
        </span>
        <span class="quiet small" role="status">
          {word(upload)}
        </span>
        {under && <PictureButton of="pause" label={say('pause', { name })} onClick={() => upload.pause()} />}
        {(progress.kind === 'paused' || progress.kind === 'failed') && (
          <PictureButton of="play" label={say('resume', { name })} onClick={() => resume(upload)} />
        )}
        <PictureButton of="close" label={say('dismiss', { name })} onClick={() => dismiss(upload)} />
      </div>
      <progress max={Math.max(1, file.size)} value={progress.kind === 'done' ? Math.max(1, file.size) : sent} aria-label={name} />
    </div>
  )
}

function word(upload: Upload): string {
  const progress = upload.progress.value
  switch (progress.kind) {
    case 'sending':
      return `${bytes(progress.sent)} / ${bytes(upload.file.size)}`
    case 'done':
      return say('uploaded')
    case 'failed':
      return say('failed', { why: progress.why })
    default:
      return say(progress.kind)
  }
}
