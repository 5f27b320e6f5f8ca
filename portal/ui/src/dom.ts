// The few things that every page's script does with the document.

export function all<T extends HTMLElement>(selector: string, root: ParentNode = document): T[] {
  return [...root.querySelectorAll<T>(selector)];
}

export function one<T extends HTMLElement>(selector: string, root: ParentNode = document): T | null {
  return root.querySelector<T>(selector);
}

/** POST a JSON object to our own server; the answer's object with its status. */
export async function post(path: string, body: object): Promise<{ status: number } & Record<string, unknown>> {
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      credentials: "same-origin",
      referrerPolicy: "no-referrer",
    });
    const told = (await answer.json().catch(() => ({}))) as Record<string, unknown>;
    return { ...told, status: answer.status };
  } catch {
    return { status: 0 };
  }
}
