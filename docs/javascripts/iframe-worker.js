/* Lets the search of the site work when a browser opens the pages from disk.
 *
 * The search of mkdocs-material runs in a web worker. Browsers do not start workers for pages of the scheme `file:`. On
 * such pages, this class takes the place of `Worker`: it runs the script in a hidden frame. The theme's script looks for
 * the name `IFrameWorker` in the frame's parent. */
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      // what the script posts arrives here
      frame.deliver = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      document.body.append(frame);
      this.frame = frame;
      this.loaded = new Promise((resolve) => (frame.scriptLoaded = resolve));
      const script = `<script src="${new URL(url, location)}" onload="frameElement.scriptLoaded()"><\/script>`;
      frame.contentDocument.open();
      frame.contentDocument.write(`<script>postMessage = frameElement.deliver<\/script>${script}`);
      frame.contentDocument.close();
    }

    async postMessage(data) {
      await this.loaded;
      const scope = this.frame.contentWindow;
      scope.dispatchEvent(new scope.MessageEvent("message", { data }));
    }

    terminate() {
      this.frame.remove();
    }
  };
  window.Worker = window.IFrameWorker;
}
