/* Follow: Dash puts pages into #content and takes them away; what a page needs is made with it and closed with it. */

import { byId } from "./dom.js";

/* Make `new Page(root)` for each root that the selector finds inside #content, and close() it when that root goes. */
export function follow(selector, Page) {
  let page = null;

  function bind() {
    const root = byId("content").querySelector(selector);
    if (page && page.root === root) return;
    if (page) page.close();
    page = root ? new Page(root) : null;
  }

  function begin() {
    if (!byId("content")) {
      requestAnimationFrame(begin);
      return;
    }
    new MutationObserver(bind).observe(byId("content"), { childList: true });
    bind();
  }

  begin();
}
