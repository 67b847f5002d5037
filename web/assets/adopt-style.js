// Lets widgets that bring their own style sheets as <style> elements or style attributes work under a content security
// policy without inline styles: their text goes through the object model, which the policy allows. Loaded before them.
"use strict";
(() => {
  const create = Document.prototype.createElement;
  const sheetOf = new WeakMap();

  const adopt = (element) => {
    const sheet = new CSSStyleSheet();
    sheetOf.set(element, sheet);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
    const text = {
      configurable: true,
      get: () => [...sheet.cssRules].map((rule) => rule.cssText).join("\n"),
      set: (css) => sheet.replaceSync(css),
    };
    Object.defineProperty(element, "textContent", text);
    Object.defineProperty(element, "innerHTML", text);
    Object.defineProperty(element, "sheet", { configurable: true, get: () => sheet });
    element.remove = () => {
      document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== sheet);
      Element.prototype.remove.call(element);
    };
    return element;
  };

  Document.prototype.createElement = function (name, ...more) {
    // An element that is never a style sheet by itself, so that the policy has nothing to refuse.
    if (String(name).toLowerCase() === "style") return adopt(create.call(this, "template"));
    return create.call(this, name, ...more);
  };

  const set = Element.prototype.setAttribute;
  Element.prototype.setAttribute = function (name, value) {
    if (String(name).toLowerCase() === "style" && this.style) this.style.cssText = value;
    else set.call(this, name, value);
  };
})();
