  // What is shown as a file for a spreadsheet. A text that it would take for a formula is quoted.
  const cell = (value) => {
    let text = String(value ?? "");
    if (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text))) text = `'${text}`;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const save = (name, rows) => {
    const text = "\ufeff" + rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  // Every table but the replies' has a button of its own.
  const offerTables = () => {
    for (const table of document.querySelectorAll(".scroll > table:not(.replies)")) {
      if (table.parentNode.querySelector("[data-mine]")) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.mine = "";
      button.className = "small";
      button.textContent = "CSV";
      button.setAttribute("aria-label", `${table.caption?.textContent ?? "The table"}: CSV`);
      button.addEventListener("click", () => {
        // A value and the interval below it are two lines of one cell.
        const text = (c) => [...c.childNodes].map((n) => n.textContent.trim()).filter(Boolean).join(" ");
        save("table.csv", [...table.rows].map((row) => [...row.cells].map(text)));
      });
      table.parentNode.append(button);
    }
  };
