// Passkeys: asks the server for a question, the authenticator for an answer, and sends it with the form.
"use strict";
(() => {
  const bytes = (text) => {
    const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
    return Uint8Array.from(plain, (c) => c.charCodeAt(0)).buffer;
  };
  const text = (buffer) => {
    const plain = String.fromCharCode(...new Uint8Array(buffer));
    return btoa(plain).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  };

  const ask = async (address, form, more = {}) => {
    const body = new URLSearchParams({ form: form.elements.form.value, ...more });
    const response = await fetch(address, { method: "POST", body, redirect: "error" });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.detail ?? "that did not work");
    return answer;
  };

  const make = async (form, question) => {
    const publicKey = question.options.publicKey;
    publicKey.challenge = bytes(publicKey.challenge);
    publicKey.user.id = bytes(publicKey.user.id);
    for (const known of publicKey.excludeCredentials ?? []) known.id = bytes(known.id);
    const made = await navigator.credentials.create({ publicKey });
    fill(form, question, {
      id: made.id,
      rawId: text(made.rawId),
      type: made.type,
      extensions: made.getClientExtensionResults(),
      response: {
        attestationObject: text(made.response.attestationObject),
        clientDataJSON: text(made.response.clientDataJSON),
        transports: made.response.getTransports?.() ?? [],
      },
    });
  };

  const prove = async (form, question) => {
    const publicKey = question.options.publicKey;
    publicKey.challenge = bytes(publicKey.challenge);
    for (const known of publicKey.allowCredentials ?? []) known.id = bytes(known.id);
    const given = await navigator.credentials.get({ publicKey });
    const handle = given.response.userHandle;
    fill(form, question, {
      id: given.id,
      rawId: text(given.rawId),
      type: given.type,
      extensions: given.getClientExtensionResults(),
      response: {
        authenticatorData: text(given.response.authenticatorData),
        clientDataJSON: text(given.response.clientDataJSON),
        signature: text(given.response.signature),
        userHandle: handle ? text(handle) : null,
      },
    });
  };

  const fill = (form, question, credential) => {
    form.elements.challenge.value = question.challenge;
    form.elements.credential.value = JSON.stringify(credential);
  };

  const say = (form, problem) => {
    let note = form.querySelector("[data-problem]");
    if (!note) {
      note = document.createElement("div");
      note.className = "note n-error";
      note.dataset.problem = "";
      note.setAttribute("role", "alert");
      form.prepend(note);
    }
    note.textContent =
      problem.name === "NotAllowedError" ? "The passkey was not given, or it took too long. Try again." : problem.message;
  };

  const attempt = async (form, work) => {
    try {
      await work();
      HTMLFormElement.prototype.submit.call(form);
    } catch (problem) {
      say(form, problem);
    }
  };

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("[data-passkey-login]") || form.elements.credential.value) return;
    event.preventDefault();
    attempt(form, async () => prove(form, await ask("/login/passkey/options", form)));
  });

  document.addEventListener("click", (event) => {
    const maker = event.target.closest("[data-make-passkey]");
    if (maker) {
      const form = maker.form;
      const needed = [...form.querySelectorAll("[required]")].find((field) => !field.reportValidity());
      if (!needed) attempt(form, async () => make(form, await ask(form.dataset.enrol, form)));
      return;
    }
    const stepper = event.target.closest("[data-step-up]");
    if (stepper) {
      const form = stepper.form;
      const needed = [...form.querySelectorAll("[required]")].find((field) => !field.reportValidity());
      const more = { action: stepper.dataset.stepUp, digest: stepper.dataset.digest };
      if (!needed) attempt(form, async () => prove(form, await ask("/step-up", form, more)));
    }
  });
})();
