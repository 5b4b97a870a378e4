"use strict";
(async () => {
{% include "theme.js" %}
{% include "csv.js" %}
{% include "reader.js" %}
{% include "curves.js" %}
  curves.load(document);
  offerTables();
  await reader.load(document);
  reader.go?.();
{% if live %}
{% include "live.js" %}
{% endif %}
})();
