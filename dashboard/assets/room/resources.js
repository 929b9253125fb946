/* Resources: panels of words, and two sentences: the bottleneck and the plan in force. */

import { attribute, byId, text } from "../live/dom.js";
import { showPanels } from "./panels.js";

export function showResources(root, body) {
  showPanels(root, body);
  text(byId("resources-bottleneck-words"), body.bottleneck.sentence);
  text(byId("resources-bottleneck-note"), body.bottleneck.note);
  attribute(byId("resources-bottleneck"), "data-severity", body.bottleneck.severity || null);
  text(byId("resources-plan-words"), body.plan);
  // Without a GPU the words why stand in one line above two columns.
  root.querySelector(".row-use").toggleAttribute("data-alone", body.panels.gpu.rows.length === 0);
}
