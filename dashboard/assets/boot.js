/* Sets the theme before the first paint: what was chosen here, else what the server says, else the system's wish. */
(function () {
  "use strict";
  var root = document.documentElement;
  var chosen = null;
  try {
    chosen = window.localStorage.getItem("deskvigil-theme");
  } catch (error) {
    chosen = null; // storage may be forbidden: then nothing is remembered
  }
  var wanted = chosen || root.dataset.defaultTheme;
  if (wanted === "dark" || wanted === "light") root.dataset.theme = wanted;
})();
