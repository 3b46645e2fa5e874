/* Sets the formulas of a page, with the MathJax that lies beside this file; pages without formulas do not load it. */
(function () {
  "use strict";
  const here = document.currentScript.src;
  window.MathJax = {
    tex: { inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]], processEscapes: true },
    options: { ignoreHtmlClass: ".*|", processHtmlClass: "arithmatex", enableMenu: false },
    startup: {
      ready() {
        MathJax.startup.defaultReady();
        MathJax.startup.promise.then(() => (document.documentElement.dataset.math = "done"));
      },
    },
  };
  document.addEventListener("DOMContentLoaded", () => {
    if (!document.querySelector(".arithmatex")) return;
    const script = document.createElement("script");
    script.src = new URL("mathjax/tex-svg-full.js", here).href;
    document.head.appendChild(script);
  });
})();
