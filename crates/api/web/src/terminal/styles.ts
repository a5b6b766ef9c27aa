// xterm.js writes style sheets and `style` attributes into the page's text, which our content security policy forbids: an attacker who gets
// text into a page hides and moves things with them. Here they go the way that scripts are allowed: through the object model.

/** Has `<style>` elements and `style` attributes that scripts make work without `style-src 'unsafe-inline'`. */
export function allowScriptedStyles(): void {
  const createElement = Document.prototype.createElement
  Document.prototype.createElement = function (this: Document, name: string, options?: ElementCreationOptions) {
    if (name !== 'style') return createElement.call(this, name, options)
    // anything that shows nothing: a `<style>`, even an empty one, would be reported
    return sheetOf(createElement.call(this, 'template'))
  } as typeof createElement

  const setAttribute = Element.prototype.setAttribute
  Element.prototype.setAttribute = function (this: Element, name: string, value: string) {
    if (name === 'style' && this instanceof HTMLElement) this.style.cssText = value
    else setAttribute.call(this, name, value)
  }
}

/** What is written into the element becomes a sheet of the document, until it is removed. */
function sheetOf(element: HTMLElement): HTMLElement {
  const sheet = new CSSStyleSheet()
  Object.defineProperty(element, 'textContent', {
    set(text: string) {
      sheet.replaceSync(text)
      if (!document.adoptedStyleSheets.includes(sheet)) document.adoptedStyleSheets.push(sheet)
    },
  })
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== sheet)
    Element.prototype.remove.call(element)
  }
  return element
}
