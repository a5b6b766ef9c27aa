// Questions that stand in the way of everything else until they are answered: the browser's own dialog element, which keeps the focus
// inside and closes on Escape.
import { signal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { say } from './words'

interface Question {
  title: string
  text?: ComponentChildren
  /** The word on the button that says yes; without it there is only one to close. */
  action?: string
  /** Something is lost for good. */
  danger?: boolean
  /** A line to be filled in. */
  field?: { label: string; value: string }
}

interface Asked extends Question {
  answer: (answer: string | undefined) => void
}

const asked = signal<Asked | undefined>(undefined)

function put(question: Question): Promise<string | undefined> {
  asked.value?.answer(undefined)
  return new Promise((resolve) => {
    asked.value = {
      ...question,
      answer: (answer) => {
        asked.value = undefined
        resolve(answer)
      },
    }
  })
}

/** Whether the reader agrees. */
export async function confirm(question: Question): Promise<boolean> {
  return (await put(question)) !== undefined
}

/** What the reader fills in; nothing when it is left empty. */
export async function prompt(question: Question & { field: { label: string; value: string } }): Promise<string | undefined> {
  return (await put(question)) || undefined
}

/** Tells what went wrong. */
export function report(error: unknown): void {
  void put({ title: say('errorTitle'), text: error instanceof Error ? error.message : String(error) })
}

export function Dialogs() {
  const question = asked.value
  return question === undefined ? null : <Dialog key={question.title} {...question} />
}

function Dialog({ title, text, action, danger, field, answer }: Asked) {
  const dialog = useRef<HTMLDialogElement>(null)
  const line = useRef<HTMLInputElement>(null)
  useEffect(() => {
    dialog.current?.showModal()
    line.current?.select()
  }, [])
  const agree = (event: Event) => {
    event.preventDefault()
    answer(line.current?.value ?? 'yes')
  }
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby="dialog-title" onClose={() => answer(undefined)}>
      <form onSubmit={agree}>
        <h2 id="dialog-title">{title}</h2>
        {text && <div class="dialog-text">{text}</div>}
        {field && (
          <label class="field">
            <span>{field.label}</span>
            <input ref={line} name="value" value={field.value} autocomplete="off" spellcheck={false} />
          </label>
        )}
        <div class="dialog-actions">
          <button type="button" class="button" onClick={() => answer(undefined)}>
            {action ? say('cancel') : say('close')}
          </button>
          {action && (
            <button type="submit" class={danger ? 'button danger' : 'button primary'} autofocus={!danger}>
              {action}
            </button>
          )}
        </div>
      </form>
    </dialog>
  )
}
