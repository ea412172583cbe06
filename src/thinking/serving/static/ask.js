// What all pages of the playground use: asking the server, and making elements. Text is never parsed as HTML.

const model = document.querySelector("main").dataset.model;

// The answer to a request. Throws an Error with the server's line if it is refused.
export async function ask(request) {
  const address = "/api/" + model.split("/").map(encodeURIComponent).join("/");
  let response;
  try {
    response = await fetch(address, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(request),
    });
  } catch {
    throw new Error("the server does not answer; start thinking serve again");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

// An element with a class and children, which are elements or text.
export function make(tag, name, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
}

export const find = (id) => document.getElementById(id);
