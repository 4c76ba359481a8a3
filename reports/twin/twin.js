// One state, and everything that follows from it. Figures are Vega-Lite specifications whose parameters bear the names
// of the state: setting them is all that is done to a figure. No framework, no network.

const twin = JSON.parse(document.getElementById("twin").textContent);
const KEY = `gramlab ${twin.name}`;
const state = { lit: null, ...twin.state, ...remembered() };
const views = []; // of figures, each with the names that it listens to
const $ = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // a browser that keeps nothing for files
  }
}

function remember() {
  const { lit, ...kept } = state;
  try {
    sessionStorage.setItem(KEY, JSON.stringify(kept));
  } catch {
    // as above
  }
}

// The chosen step: the last one unless another was chosen, so that a page that is made anew follows the run.
const upto = () => (twin.steps.includes(state.step) ? state.step : twin.steps.at(-1));
const choices = () => ({ ...state, upto: upto() });

let asked = false;
function set(changes) {
  if (Object.entries(changes).every(([name, value]) => state[name] === value)) return;
  Object.assign(state, changes);
  remember();
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    show();
  });
}

function show() {
  for (const one of views) tell(one);
  document.documentElement.dataset.theme = state.theme;
  $("#at").textContent = `step ${twin.stepsSaid[twin.steps.indexOf(upto())]}`;
  $("#step").value = twin.steps.indexOf(upto());
  $("#step").setAttribute("aria-valuetext", $("#at").textContent);
  for (const name of ["x", "y", "along", "theme", "image", "kind"].filter((one) => one in twin.state)) {
    $(`#${name}`).value = state[name];
  }
  for (const box of all("input[type=checkbox]")) box.checked = !off(box).includes(named(box));
  showValues();
  if (twin.gallery) showMaps();
  for (const one of all("[data-arm]")) {
    one.classList.toggle("lit", state.lit === one.dataset.arm);
    one.classList.toggle("dim", state.hidden.includes(one.dataset.arm));
  }
}

const off = (box) => (box.name === "seed" ? state.hiddenSeeds : state.hidden);
const named = (box) => (box.name === "seed" ? Number(box.value) : box.value);

// Figures

function rows(name) {
  const { ids, rows } = twin.sheets[name];
  return rows.map((row) => Object.fromEntries(ids.map((id, place) => [id, row[place]])));
}

const means = rows("means");

// Only figures that are on the screen follow at once; the others do when they come there, or before they are printed.
const onScreen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const one = views.find(({ place }) => place === target);
    one.seen = isIntersecting;
    tell(one);
  }
}, { rootMargin: "200px" });

function tell(one, always = false) {
  if (!one.seen && !always) return;
  const now = choices();
  const news = one.names.filter((name) => one.told[name] !== now[name]);
  if (!news.length) return;
  for (const name of news) one.view.signal(name, (one.told[name] = now[name]));
  one.view.runAsync();
}

async function draw(place) {
  const spec = twin.specs[place.dataset.spec];
  const now = choices();
  const names = spec.params.map(({ name }) => name).filter((name) => name in now);
  const params = spec.params.map((one) => (names.includes(one.name) ? { ...one, value: now[one.name] } : one));
  const used = new Set(spec.layer.map(({ data }) => data.name).filter(Boolean));
  const datasets = Object.fromEntries([...used].map((name) => [name, rows(name)]));
  const quiet = { logLevel: 1, actions: false, defaultStyle: false, tooltip: { disableDefaultStyle: true } }; // errors: an
  const options = { mode: "vega-lite", renderer: "svg", ...quiet }; // empty layer, no seed to show say, is none
  const { view } = await window.vegaEmbed(place, { ...spec, params, datasets }, options);
  $("svg", place).setAttribute("aria-hidden", "true"); // the figure has a name; marks by the hundred need none
  view.addEventListener("pointerover", (_, item) => set({ lit: item?.datum?.arm || null }));
  view.addEventListener("pointerout", () => set({ lit: null }));
  view.addEventListener("click", (event, item) => { // a finger never hovers: what it taps tells its value and stays lit
    if (event.pointerType === "mouse") return;
    view.tooltip()(view, event, item, item?.tooltip ?? null);
    set({ lit: item?.datum?.arm || null });
  });
  const told = Object.fromEntries(names.map((name) => [name, now[name]]));
  views.push({ place, view, names, told, seen: true });
  onScreen.observe(place);
}

// What the trade-off shows at the chosen step, in numbers.
function showValues() {
  const axes = [...new Set([state.y, state.x])].filter((name) => name !== "step");
  const head = ["Arm", "Step", ...axes.map((name) => twin.fields[name])];
  const latest = new Map();
  for (const row of means) {
    if (row.step <= upto() && !state.hidden.includes(row.arm)) latest.set(row.arm, row);
  }
  const line = (tag, texts) => {
    const made = document.createElement("tr");
    made.append(...texts.map((text, place) => {
      const cell = document.createElement(place ? tag : "th");
      if (cell.tagName === "TH") cell.scope = tag === "th" ? "col" : "row";
      cell.className = place ? "number" : "";
      cell.textContent = text;
      return cell;
    }));
    return made;
  };
  $("#now caption").textContent = latest.size ? "At the chosen step" : "No arm is switched on, or none was evaluated so early";
  $("#now thead").replaceChildren(line("th", head));
  $("#now tbody").replaceChildren(...[...latest.values()].map((row) => {
    const made = line("td", [row.arm, ...["step", ...axes].map((name) => row[`${name}_said`])]);
    made.dataset.arm = row.arm;
    made.firstChild.prepend($(`.chips [data-arm="${CSS.escape(row.arm)}"] .swatch`).cloneNode(true));
    return made;
  }));
}

// Pictures of features at the chosen step, or the last one before it that has any.
function showMaps() {
  const image = twin.gallery.images[state.image];
  const title = twin.gallery.kinds[state.kind];
  const fill = (img, url, what) => {
    img.hidden = !url;
    if (url && img.src !== url) img.src = url;
    img.alt = url ? what : "";
  };
  fill($("#whole"), image.image, `The image ${image.caption}`);
  const [down, right] = image.points[state.kind] ?? [];
  $("#point").hidden = down === undefined;
  if (down !== undefined) $("#point").style.cssText = `top: ${100 * down}%; left: ${100 * right}%`;
  $("#known").hidden = !image.truth[state.kind];
  fill($("#known img"), image.truth[state.kind], `True ${title}`);
  for (const one of all("[data-map]")) {
    const steps = image.arms[one.dataset.map].filter(([, kinds]) => state.kind in kinds);
    const [step, kinds] = steps.filter(([at]) => at <= upto()).at(-1) ?? [];
    fill($("img", one), kinds?.[state.kind], `${title}, ${one.dataset.map}, step ${step}`);
    $("small", one).textContent = kinds ? `step ${said(step)}` : steps.length ? "not so early" : "none of this image";
    one.hidden = state.hidden.includes(one.dataset.map);
  }
  const legend = image.legends[state.kind] ?? "";
  $("#colours").replaceChildren(...(typeof legend === "string" ? [legend] : legend.map(([name, colour]) => {
    const made = document.createElement("span");
    made.append(document.createElement("i"), name);
    made.firstChild.style.background = colour;
    return made;
  })));
}

const said = (step) => twin.stepsSaid[twin.steps.indexOf(step)] ?? step;

// Tables

function sort(button) {
  const head = button.closest("th");
  const heads = [...head.parentElement.children];
  const place = heads.indexOf(head);
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const one of heads) one.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = head.closest("table").tBodies[0];
  const key = (row) => row.children[place].dataset.by ?? row.children[place].textContent;
  const compare = (a, b) => {
    const numbers = [Number(a), Number(b)];
    return numbers.some(Number.isNaN) ? a.localeCompare(b, "en", { numeric: true }) : numbers[0] - numbers[1];
  };
  const unknown = (row) => row.children[place].textContent.trim() === "–";
  const sorted = [...body.rows].sort((a, b) => unknown(a) - unknown(b) || compare(key(a), key(b)) * (down ? -1 : 1));
  body.append(...sorted);
}

// CSV, as RFC 4180 has it; rows that hold none of the measures asked for are left out.
function csv(name, ids) {
  const { ids: known, titles, rows } = twin.sheets[name];
  const places = (ids ?? known).map((id) => known.indexOf(id));
  const measures = places.filter((place) => /^c\d/.test(known[place]));
  const quote = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const lines = rows
    .filter((row) => !measures.length || measures.some((place) => row[place] !== null))
    .map((row) => places.map((place) => row[place]));
  return [places.map((place) => titles[place]), ...lines]
    .map((line) => line.map((value) => quote(String(value ?? ""))).join(",") + "\r\n")
    .join("");
}

async function copy(button) {
  const text = csv(button.dataset.sheet, button.dataset.ids?.split(" "));
  try {
    await navigator.clipboard.writeText(text);
    say("Copied as CSV");
  } catch {
    $("#by-hand textarea").value = text; // a browser that gives no page the clipboard
    $("#by-hand").showModal();
    $("#by-hand textarea").select();
  }
}

function say(text) {
  $("#toast").textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => ($("#toast").textContent = ""), 2500);
}

// What a reader does

document.addEventListener("click", ({ target }) => {
  if (target.matches(".sort")) sort(target);
  if (target.matches(".copy")) copy(target);
  if (target.matches(".look")) {
    set({ x: target.dataset.x, y: target.dataset.y });
    $("#trade-off-section").scrollIntoView();
    $("#x").focus({ preventScroll: true });
  }
});
document.addEventListener("input", ({ target }) => {
  if (target.id === "step") {
    const step = twin.steps[target.value];
    set({ step: step === twin.steps.at(-1) ? null : step });
  } else if (target.type === "checkbox") {
    const others = off(target).filter((one) => one !== named(target));
    const list = target.checked ? others : [...others, named(target)];
    set(target.name === "seed" ? { hiddenSeeds: list } : { hidden: list });
  } else if (target.id in state) {
    set({ [target.id]: target.value });
  }
});
for (const happens of ["pointerover", "focusin"]) {
  document.addEventListener(happens, ({ target }) => {
    if (!target.closest?.(".chart")) set({ lit: target.closest?.("[data-arm]")?.dataset.arm ?? null });
  });
}
window.addEventListener("beforeprint", () => {
  for (const one of views) tell(one, true);
  for (const one of all("details")) one.open = true;
});
$(".controls").addEventListener("submit", (event) => event.preventDefault());

(async () => {
  for (const name of ["x", "y"]) if (!(state[name] in twin.fields)) state[name] = twin.state[name];
  const { image, kind } = twin.state; // of a page that is made anew, others may be there than were looked at
  if (twin.gallery && !(twin.gallery.images[state.image] && state.kind in twin.gallery.kinds)) Object.assign(state, { image, kind });
  show();
  for (const place of all(".chart")) await draw(place);
  document.documentElement.dataset.ready = "yes";
})();
