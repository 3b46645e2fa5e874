/* Sets the formulas of a page, with the MathJax that lies beside this file; pages without formulas do not load it. */
(function () {
  "use strict";
  const here = document.currentScript.src;
  window.MathJax = {
    tex: { inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]], processEscapes: true },
    svg: { scale: 0.92 },
    options: { ignoreHtmlClass: ".*|", processHtmlClass: "arithmatex", enableMenu: false },
    startup: {
      ready() {
        MathJax.startup.defaultReady();
        MathJax.startup.promise.then(() => (document.documentElement.dataset.math = "done"));
      },
    },
  };
  document.addEventListener("DOMContentLoaded", () => {
    // formulas in headings stand in the table of contents as well
    for (const entry of document.querySelectorAll(".md-nav .md-ellipsis, .md-header__topic .md-ellipsis")) {
      if (entry.textContent.includes("\\(")) entry.classList.add("arithmatex");
    }
    if (!document.querySelector(".arithmatex")) return;
    const script = document.createElement("script");
    script.src = new URL("mathjax/tex-svg-full.js", here).href;
    document.head.appendChild(script);
  });
})();
