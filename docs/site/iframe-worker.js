// The search runs in a worker, and browsers start none for a page from the disk: there it runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      const inside = frame.contentWindow
      const run = source => new Promise(resolve => {
        const script = inside.document.createElement("script")
        script.src = source
        script.onload = script.onerror = resolve
        inside.document.body.append(script)
      })
      inside.importScripts = (...sources) => sources.reduce((last, next) => last.then(() => run(next)), Promise.resolve())
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.deliver = data => inside.dispatchEvent(new MessageEvent("message", { data }))
      this.ready = run(url)
    }
    postMessage(data) { this.ready.then(() => this.deliver(data)) }
    terminate() {}
  }
}
