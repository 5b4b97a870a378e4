  // News of the run: what differs is changed in place, so that folds, choices, a selection of text
  // and the place on the page stay as they are.
  {
    const banner = document.getElementById("live");
    const mine = (node) => node.nodeType === 1 && "mine" in node.dataset;
    const kept = new Set(["open", "hidden", "tabindex", "disabled", "data-js", "data-theme"]);
    let version = banner.dataset.version, busy = 0, failed = 0, looking = false;

    const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id ?? "") === (b.id ?? "");
    function morph(old, fresh) {
      if (old.isEqualNode(fresh)) return;
      if (!alike(old, fresh)) return void old.replaceWith(fresh);
      if (old.nodeType !== 1) return void (old.nodeValue = fresh.nodeValue);
      if (["entries", "live", "theme"].includes(old.id) || old.nodeName === "SCRIPT" || old.nodeName === "OUTPUT") return;
      for (const { name, value } of fresh.attributes) if (!kept.has(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
      for (const { name } of [...old.attributes]) if (!kept.has(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
      children(old, [...fresh.childNodes]);
    }
    function children(parent, wanted) {
      const olds = [...parent.childNodes].filter((node) => !mine(node));
      const named = new Map(olds.filter((node) => node.id).map((node) => [node.id, node]));
      const unnamed = olds.filter((node) => !node.id);
      const pairs = wanted.map((fresh) => {
        if (fresh.id) return [named.get(fresh.id), fresh];
        const at = unnamed.findIndex((node) => node.nodeType === fresh.nodeType && node.nodeName === fresh.nodeName);
        return [at < 0 ? undefined : unnamed.splice(0, at + 1).at(-1), fresh];
      });
      const stays = new Set(pairs.map(([old]) => old));
      for (const node of olds) if (!stays.has(node)) node.remove();
      let next = parent.firstChild;
      for (const [old, fresh] of pairs) {
        while (next && mine(next)) next = next.nextSibling;
        if (old && old === next) next = next.nextSibling;
        else parent.insertBefore(old ?? fresh, next);
        if (old) morph(old, fresh);
      }
    }
    const choices = () => [...document.querySelectorAll("form.filters select")].map((e) => [e.form.id, e.name, e.value]);

    async function refresh() {
      const text = await (await fetch("/", { cache: "no-store" })).text();
      const fresh = new DOMParser().parseFromString(text, "text/html"), before = choices();
      const seen = document.elementFromPoint(innerWidth / 2, 40), top = seen?.getBoundingClientRect().top;
      document.title = fresh.title;
      // The first conversations bring filters with them, which only a page that begins anew attaches.
      if (!document.getElementById("filters") !== !fresh.getElementById("filters") || !document.getElementById("smoothing") !== !fresh.getElementById("smoothing")) return void begin_anew();
      morph(document.body, fresh.body);
      for (const [form, name, value] of before) { const e = document.forms[form]?.elements[name]; if (e && [...e.options].some((o) => o.value === value)) e.value = value; }
      curves.load(fresh);
      await reader.load(fresh);
      offerTables();
      if (seen?.isConnected) scrollBy({ top: seen.getBoundingClientRect().top - top, behavior: "instant" });
      version = fresh.getElementById("live").dataset.version;
    }
    // What a page that loads anew would lose is handed to it.
    function begin_anew() {
      const open = [...document.querySelectorAll("details[open][id]")].map((e) => e.id);
      try { sessionStorage.setItem("icpo-lite-live", JSON.stringify({ open, choices: choices(), top: scrollY })); } catch { /* not kept */ }
      location.reload();
    }
    function take_over() {
      let left = null;
      try { left = JSON.parse(sessionStorage.getItem("icpo-lite-live")); sessionStorage.removeItem("icpo-lite-live"); } catch { /* none */ }
      if (!left) return;
      for (const id of left.open) { const e = document.getElementById(id); if (e) e.open = true; }
      for (const [form, name, value] of left.choices) { const e = document.forms[form]?.elements[name]; if (e) { e.value = value; e.dispatchEvent(new Event("input", { bubbles: true })); } }
      scrollTo({ top: left.top, behavior: "instant" });
    }
    function say(words, state) {
      if (banner.textContent !== words) banner.textContent = words;
      banner.dataset.state = state;
    }
    async function look() {
      if (document.hidden || looking) return;
      looking = true;
      try {
        const state = await (await fetch("/state", { cache: "no-store" })).json();
        failed = 0;
        // A page that takes long to make is asked for less often.
        if (state.version !== version && performance.now() > busy) {
          const began = performance.now();
          await refresh();
          busy = performance.now() + 5 * (performance.now() - began);
        }
        const age = state.age === null || state.phase !== "training" ? "" : `, last news ${state.age < 120 ? `${Math.round(state.age)} s` : `${Math.round(state.age / 60)} min`} ago`;
        say(state.words + age, state.phase);
      } catch {
        failed += 1;
        if (failed > 1) say("The server of this page does not answer any more: what is shown is what it last said.", "gone");
      } finally {
        looking = false;
      }
    }
    const follow = async () => { await look(); setTimeout(follow, {{ poll_ms }}); };
    document.addEventListener("visibilitychange", look);
    take_over();
    setTimeout(follow, {{ poll_ms }});
  }
