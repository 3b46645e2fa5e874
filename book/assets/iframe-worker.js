/* Browsers start no Worker from file://. There a hidden frame does its work: the search of the site.
   The same interface as far as the theme uses it: postMessage, and message events in both directions. */
(function () {
  "use strict";
  if (location.protocol !== "file:") return;

  class FrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.appendChild(this.frame);
      const inside = this.frame.contentWindow;
      const load = (address) =>
        new Promise((done, failed) => {
          const script = inside.document.createElement("script");
          script.src = new URL(address, location.href).href;
          script.onload = done;
          script.onerror = failed;
          inside.document.body.appendChild(script);
        });
      // what a worker finds in its global scope
      inside.importScripts = (...addresses) => addresses.reduce((p, a) => p.then(() => load(a)), Promise.resolve());
      inside.IFrameWorker = FrameWorker;
      inside.postMessage = (data) => {
        const event = new MessageEvent("message", { data });
        this.dispatchEvent(event);
        if (this.onmessage) this.onmessage(event);
      };
      this.ready = load(url);
    }
    postMessage(data) {
      const inside = this.frame.contentWindow;
      this.ready.then(() => inside.dispatchEvent(new inside.MessageEvent("message", { data })));
    }
    terminate() {
      this.frame.remove();
    }
  }

  window.IFrameWorker = FrameWorker;
  window.Worker = FrameWorker;
})();
