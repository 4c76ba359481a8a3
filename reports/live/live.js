// Of a served report: it is loaded anew when the tables of the run have changed, and stays where it was.
// The server puts `shown` and `made` before this, the version of the page, of which another one may be there before this
// runs, and when it was made.
const PLACE = `gramlab place ${location.pathname}`;
const badge = document.body.appendChild(document.createElement("output"));
badge.id = "live";
badge.setAttribute("role", "status");
badge.style.cssText = `position: fixed; left: 1rem; bottom: 1rem; padding: .2rem .6rem; border-radius: 4px;
  font: 12px system-ui, sans-serif; background: light-dark(#1a1a1a, #ececec); color: light-dark(#ffffff, #15181b)`;

function say(text) {
  if (badge.textContent !== text) badge.textContent = text;
}

async function look() {
  try {
    const answer = await fetch("/version", { cache: "no-store" });
    if ((await answer.json()).version !== shown) {
      if (scrollY) sessionStorage.setItem(PLACE, String(scrollY)); // who is at the top may scroll at once
      location.reload();
      return;
    }
    say(`live, as of ${made}`);
  } catch {
    say("no longer served: this is the last state");
  }
  setTimeout(look, 2000);
}

const place = sessionStorage.getItem(PLACE);
if (place !== null) {
  sessionStorage.removeItem(PLACE);
  const back = setInterval(() => {
    if (document.getElementById("twin") && !document.documentElement.dataset.ready) return;
    clearInterval(back);
    scrollTo(0, Number(place));
  }, 100);
}
look();
