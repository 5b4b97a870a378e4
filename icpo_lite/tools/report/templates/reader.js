  // Conversations: those that fit the filters, in order, a page at a time. Most lie packed in the
  // page and become elements when they are shown.
  const reader = (() => {
    const form = document.getElementById("filters"), box = document.getElementById("entries"), pages = document.getElementById("pages");
    if (!form) return { load: async () => {} };
    const byId = new Map(), collator = new Intl.Collator(undefined, { numeric: true });
    let entries = [], fitting = [], page = 0;

    const parsed = (html) => {
      const template = document.createElement("template");
      template.innerHTML = html;
      return template.content.firstElementChild;
    };
    const unescaped = { "&lt;": "<", "&gt;": ">", "&#34;": '"', "&#39;": "'", "&amp;": "&" };
    const plain = (html) => html.replace(/<[^>]*>/g, "").replace(/&(?:lt|gt|amp|#34|#39);/g, (name) => unescaped[name]);
    const elementOf = (entry) => entry.element ??= parsed(entry.html);
    const textOf = (entry) => entry.text ??= (entry.html ? plain(entry.html) : entry.element.textContent).toLowerCase();

    // Those of a document: in it, and packed in it.
    async function entriesOf(page) {
      const found = [...page.querySelectorAll("#entries > .entry")].map((element) => ({ data: element.dataset, element }));
      const packed = page.getElementById("packed");
      if (packed && typeof DecompressionStream === "function") {
        const bytes = Uint8Array.from(atob(packed.textContent), (sign) => sign.charCodeAt(0));
        const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
        for (const text of (await new Response(stream).text()).split("\0")) {
          const html = text.trim();
          const head = parsed(html.slice(0, html.indexOf(">") + 1) + "</details>");
          found.push({ data: head.dataset, id: head.id, html });
        }
      }
      for (const entry of found) entry.id ??= entry.element.id;
      return found.sort((a, b) => a.data.place - b.data.place);
    }
    // What is known already stays as it is, folded or not.
    async function load(page) {
      entries = (await entriesOf(page)).map((entry) => {
        const known = byId.get(entry.id);
        return known && known.data.contents === entry.data.contents ? known : entry;
      });
      byId.clear();
      for (const entry of entries) byId.set(entry.id, entry);
      choose();
    }

    const fits = ({ data }, wish) => {
      if (wish.judgement && data.judgement !== wish.judgement) return false;
      if (wish.setting && data.setting !== wish.setting) return false;
      if (wish.type && !data.types.split(" ").includes(wish.type)) return false;
      if (!wish.outcome) return true;
      return data.own.split(" ").includes(wish.outcome) || JSON.parse(data.outcomes)[wish.against] === wish.outcome;
    };
    const ordered = (found, order) => {
      const key = order.replace("-", ""), sign = order.startsWith("-") ? -1 : 1;
      if (key === "place") return found;
      if (key === "problem") return found.sort((a, b) => collator.compare(a.data.problem, b.data.problem));
      const missing = ({ data }) => data[key] === "";
      return found.sort((a, b) => missing(a) - missing(b) || (missing(a) ? 0 : sign * (a.data[key] - b.data[key])));
    };
    function choose(keepPage = true) {
      const wish = Object.fromEntries(new FormData(form)), text = (wish.text || "").toLowerCase();
      fitting = entries.filter((entry) => fits(entry, wish) && (!text || textOf(entry).includes(text)));
      fitting = ordered(fitting, wish.order || "place");
      form.elements.count.value = `${fitting.length} of ${entries.length}`;
      show(keepPage ? page : 0);
    }
    function show(wanted) {
      const size = Number(form.elements.size.value), last = Math.max(Math.ceil(fitting.length / size) - 1, 0);
      page = Math.min(Math.max(wanted, 0), last);
      const shown = fitting.slice(page * size, (page + 1) * size).map(elementOf);
      // Only what changes is touched: a selection of text lives on in what stays.
      for (const old of [...box.children]) if (!shown.includes(old)) old.remove();
      shown.forEach((element, i) => { if (box.children[i] !== element) box.insertBefore(element, box.children[i] ?? null); });
      pages.querySelector("output").value = `${page + 1} of ${last + 1}`;
      pages.querySelector("[name=back]").disabled = page === 0;
      pages.querySelector("[name=on]").disabled = page === last;
    }
    // The conversation that the address names.
    function go() {
      const entry = byId.get(decodeURIComponent(location.hash.slice(1)));
      if (!entry) return;
      if (!fitting.includes(entry)) { form.reset(); choose(false); }
      show(Math.floor(fitting.indexOf(entry) / Number(form.elements.size.value)));
      const element = elementOf(entry);
      element.open = true;
      element.querySelector("summary").focus({ preventScroll: true });
      element.scrollIntoView({ behavior: "instant" });
    }
    function table() {
      const rows = [["judgement", "setting", "problem", "run", "answer", "model", "outcome", "score", "ending", "replies", "tokens", "P(ask)", "conversation"]];
      for (const entry of fitting) {
        const { judgement, setting, problem, run, outcomes } = entry.data, against = JSON.parse(outcomes);
        const element = entry.element ?? parsed(entry.html);
        for (const talk of element.querySelectorAll(".talk")) {
          const said = [...talk.querySelectorAll(".turn")].map((turn) => `${turn.querySelector(".who").textContent.trim().replace(/\s+/g, " ")}: ${turn.querySelector(".text").textContent}`);
          const model = talk.getAttribute("aria-label"), { score, ending, replies, tokens, ask } = talk.dataset;
          rows.push([judgement, setting, problem, run, element.querySelector(".answer").textContent, model, against[model] ?? "", score, ending, replies, tokens, ask, said.join("\n")]);
        }
      }
      return rows;
    }

    form.addEventListener("input", () => choose(false));
    form.addEventListener("reset", () => setTimeout(() => choose(false)));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.elements.csv.addEventListener("click", () => save("conversations.csv", table()));
    pages.addEventListener("click", ({ target }) => {
      if (target.name !== "back" && target.name !== "on") return;
      show(page + (target.name === "on" ? 1 : -1));
      box.scrollIntoView({ behavior: "instant" });
    });
    addEventListener("hashchange", go);
    return { load, go };
  })();
