// Debian's Chromium, without a window.

import { accessSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const executablePath = '/usr/bin/chromium';

// Why tests with a browser cannot be run here; false if they can. With REQUIRE_BROWSER=1 they must.
export const skip = isInstalled() ? false : `${executablePath} is not there`;

function isInstalled() {
  try {
    accessSync(executablePath);
    return true;
  } catch (error) {
    if (process.env.REQUIRE_BROWSER === '1') throw error;
    return false;
  }
}

// Starts the browser with a profile of its own, and gives it with a function that ends it.
export async function startBrowser(...more) {
  const profile = mkdtempSync(join(tmpdir(), 'chromium-'));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath,
    args: [
      ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
      ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
      ...more,
    ],
  });
  const end = async () => {
    await browser.close();
    rmSync(profile, { recursive: true, force: true });
  };
  return { browser, end };
}
