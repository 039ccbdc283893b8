
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const list = byId("list"), word = byId("identity"), verdict = byId("verdict"), reason = byId("reason"), order = byId("order");
  const people = [...list.children].map((section) => ({
    section,
    name: section.dataset.name,
    share: Number(section.dataset.share),
    offered: Number(section.dataset.offered),
    more: section.querySelector(".more"),
    photos: [...section.querySelectorAll(".p")].map((tile) => ({ tile, state: tile.classList[1], reason: tile.dataset.r ?? "" })),
  }));
  const rest = [...document.querySelectorAll("#rest tr[data-name]")];

  // A photo that is to be reviewed was kept.
  const matches = (photo) =>
    (!verdict.value || photo.state === verdict.value || (verdict.value === "kept" && photo.state === "review")) &&
    (!reason.value || photo.reason === reason.value);

  function filter() {
    const name = word.value.trim().toLowerCase();
    let identities = 0, photos = 0;
    for (const person of people) {
      const named = person.name.includes(name);
      let shown = 0;
      for (const photo of person.photos) {
        const fits = named && matches(photo);
        if (photo.tile.hidden === fits) photo.tile.hidden = !fits;
        const tab = fits && shown === 0 ? 0 : -1;
        if (photo.tile.tabIndex !== tab) photo.tile.tabIndex = tab;
        shown += fits;
      }
      if (person.more) person.more.hidden = Boolean(verdict.value || reason.value);
      person.section.hidden = !shown;
      identities += shown > 0;
      photos += shown;
    }
    for (const row of rest) row.hidden = !row.dataset.name.includes(name);
    if (rest.length) byId("rest").hidden = Boolean(verdict.value || reason.value);
    byId("found").textContent = `${identities} of ${people.length} identities, ${photos} photos shown`;
    byId("nothing").hidden = identities > 0;
    remember();
  }

  const orders = {
    name: (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
    least: (a, b) => a.share - b.share,
    most: (a, b) => b.share - a.share,
    photos: (a, b) => b.offered - a.offered,
  };

  function sort() {
    list.append(...[...people].sort(orders[order.value]).map((person) => person.section));
  }

  // The filters stand in the address, so that a view can be shown to somebody else.
  const fields = { identity: word, verdict, reason, order };

  function remember() {
    const set = new URLSearchParams();
    for (const [key, field] of Object.entries(fields)) if (field.value && field.value !== "name") set.set(key, field.value);
    const wanted = set.size ? `#${set}` : "";
    if (wanted !== location.hash && (wanted || location.hash.includes("="))) history.replaceState(null, "", wanted || "#identities");
  }

  function recall() {
    if (!location.hash.includes("=")) return;
    const set = new URLSearchParams(location.hash.slice(1));
    for (const [key, field] of Object.entries(fields)) if (set.has(key)) field.value = set.get(key);
    byId("identities").scrollIntoView();
  }

  function choose(values) {
    for (const [key, field] of Object.entries(fields)) field.value = values[key] ?? (key === "order" ? "name" : "");
    sort();
    filter();
  }

  word.addEventListener("input", filter);
  verdict.addEventListener("change", filter);
  reason.addEventListener("change", filter);
  order.addEventListener("change", () => { sort(); filter(); });
  document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
  document.querySelector(".filters").addEventListener("reset", (event) => { event.preventDefault(); choose({}); });
  byId("reset").addEventListener("click", () => choose({}));
  for (const button of document.querySelectorAll(".pick")) {
    button.addEventListener("click", () => { choose({ reason: button.dataset.reason }); byId("identities").scrollIntoView(); reason.focus(); });
  }

  // One photo of a strip is in the order of tabs; arrow keys go to the others.
  function reachable(strip, chosen) {
    for (const tile of strip.children) if (tile.classList.contains("p")) tile.tabIndex = tile === chosen ? 0 : -1;
  }

  function step(tile, key) {
    const tiles = [...tile.parentElement.querySelectorAll(":scope > .p:not([hidden])")];
    const at = tiles.indexOf(tile);
    const next = { ArrowRight: tiles[at + 1], ArrowLeft: tiles[at - 1], Home: tiles[0], End: tiles.at(-1) }[key];
    if (!next) return;
    reachable(tile.parentElement, next);
    next.focus();
  }

  // What is told of a photo stays within its section, which cuts off what is outside.
  function place(tile) {
    const words = tile.querySelector("p");
    words.style.left = "";
    tile.classList.remove("up");
    const box = words.getBoundingClientRect(), room = tile.closest("section, article").getBoundingClientRect();
    if (box.right > room.right) words.style.left = `${Math.floor(-3 - box.right + room.right)}px`;
    tile.classList.toggle("up", box.bottom > room.bottom);
  }

  function enlarge(tile) {
    const { s: sha, f: file = ".jpg" } = tile.dataset, small = tile.querySelector("img");
    byId("large-image").hidden = !small;
    if (small) byId("large-image").src = small.src;
    byId("large-why").innerHTML = tile.querySelector("p").innerHTML;
    byId("large-sha").textContent = sha;
    byId("large-explain").textContent = `bolid curate --explain ${sha.slice(0, 16)}`;
    byId("large-link").href = `images/${sha.slice(0, 2)}/${sha}${file}`;
    byId("large").showModal();
  }

  document.addEventListener("keydown", (event) => {
    const tile = event.target.closest?.(".p"), matrix = event.target.closest?.(".matrix");
    if (tile && ["ArrowRight", "ArrowLeft", "Home", "End"].includes(event.key)) { event.preventDefault(); step(tile, event.key); }
    else if (tile && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); enlarge(tile); }
    else if (matrix && event.key.startsWith("Arrow")) { event.preventDefault(); walk(matrix, event.key); }
    else if (event.key === "/" && !/^(INPUT|SELECT)$/.test(event.target.tagName)) { event.preventDefault(); word.focus(); }
  });
  document.addEventListener("click", (event) => {
    const tile = event.target.closest(".p");
    if (tile) enlarge(tile);
  });
  byId("large").addEventListener("click", (event) => { if (event.target === byId("large")) byId("large").close(); });

  for (const tile of document.querySelectorAll(".p:not([tabindex])")) tile.tabIndex = -1;
  document.addEventListener("focusin", (event) => {
    if (!event.target.classList?.contains("p")) return;
    reachable(event.target.parentElement, event.target);
    place(event.target);
  });
  document.addEventListener("pointerover", (event) => {
    const tile = event.target.closest(".p");
    if (tile) place(tile);
  });

  // Similarity: the picture's grey levels are the cosines, -1 is 0 and 1 is 255.
  const pixels = new WeakMap();

  async function levels(matrix, n) {
    if (!pixels.has(matrix)) {
      const image = new Image();
      image.src = matrix.querySelector("image").getAttribute("href");
      pixels.set(matrix, image.decode().then(() => {
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = n;
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        return context.getImageData(0, 0, n, n).data;
      }));
    }
    return pixels.get(matrix);
  }

  async function read(matrix, row, column) {
    const photos = matrix.dataset.photos.split(" "), n = photos.length, mark = matrix.querySelector(".at");
    if (row < 0 || column < 0 || row >= n || column >= n) return;
    matrix.dataset.at = `${row} ${column}`;
    const cosine = (await levels(matrix, n))[4 * (row * n + column)] / 127.5 - 1;
    if (matrix.dataset.at !== `${row} ${column}`) return;
    mark.removeAttribute("hidden");
    mark.setAttribute("x", column);
    mark.setAttribute("y", row);
    matrix.parentElement.querySelector("figcaption").textContent = `no. ${photos[row]} and no. ${photos[column]}: ${cosine.toFixed(2)}`;
    for (const tile of matrix.closest(".identity").querySelectorAll(".p")) tile.classList.toggle("lit", [photos[row], photos[column]].includes(tile.dataset.n));
  }

  function leave(matrix) {
    delete matrix.dataset.at;
    matrix.querySelector(".at").setAttribute("hidden", "");
    const caption = matrix.parentElement.querySelector("figcaption");
    caption.textContent = caption.dataset.told;
    for (const tile of matrix.closest(".identity").querySelectorAll(".lit")) tile.classList.remove("lit");
  }

  function walk(matrix, key) {
    const [row, column] = (matrix.dataset.at ?? "0 0").split(" ").map(Number);
    const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[key];
    read(matrix, row + down, column + right);
  }

  for (const matrix of document.querySelectorAll(".matrix")) {
    matrix.addEventListener("pointermove", (event) => {
      const box = matrix.getBoundingClientRect(), { x: edge, width: size } = matrix.viewBox.baseVal;
      const at = (where, from, span) => Math.floor(((where - from) / span) * size + edge);
      read(matrix, at(event.clientY, box.top, box.height), at(event.clientX, box.left, box.width));
    });
    matrix.addEventListener("pointerleave", () => leave(matrix));
    matrix.addEventListener("blur", () => leave(matrix));
    matrix.addEventListener("focus", () => { if (matrix.matches(":focus-visible")) read(matrix, 0, 0); });
  }

  for (const chart of document.querySelectorAll(".chart")) {
    const numbers = (name) => chart.dataset[name].split(" ").map(Number);
    const kept = numbers("kept"), others = numbers("others"), edges = numbers("edges");
    const sum = (counts, from, to) => counts.slice(from, to).reduce((a, b) => a + b, 0);
    const slider = chart.querySelector("input"), line = chart.querySelector(".cursor");
    slider.addEventListener("input", () => {
      const at = Number(slider.value), end = kept.length;
      line.removeAttribute("hidden");
      line.setAttribute("transform", `translate(${(400 * at) / end})`);
      const words = `${sum(kept, 0, at)} kept and ${sum(others, 0, at)} others below ${edges[at]}, ${sum(kept, at, end)} and ${sum(others, at, end)} above`;
      chart.querySelector("output").textContent = words;
      slider.setAttribute("aria-valuetext", words);
    });
  }

  recall();
  sort();
  filter();
})();
