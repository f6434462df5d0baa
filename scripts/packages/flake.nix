# Nix's flake. It lies in a folder of its own: nix run 'github:OWNER/langfast2api?dir=scripts/packages'
{
  description = "An OpenAI-compatible API in front of LangFast";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs =
    { self, nixpkgs }:
    let
      inherit (builtins.fromTOML (builtins.readFile ../../Cargo.toml)) package;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEach = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in
    {
      packages = forEach (pkgs: {
        default = pkgs.rustPlatform.buildRustPackage {
          pname = package.name;
          inherit (package) version;
          src = ../..;
          cargoLock.lockFile = ../../Cargo.lock;
          nativeBuildInputs = [
            pkgs.installShellFiles
            pkgs.pkg-config
          ];
          buildInputs = [ pkgs.openssl ];
          cargoBuildFlags = [ "--bin=langfast2api" ];
          # They start servers, browsers and proxies.
          doCheck = false;
          postInstall = ''
            for shell in bash zsh fish; do
              $out/bin/langfast2api completions $shell >langfast2api.$shell
              installShellCompletion langfast2api.$shell
            done
            $out/bin/langfast2api man >langfast2api.1
            installManPage langfast2api.1
          '';
          meta = {
            inherit (package) description;
            homepage = package.repository;
            license = pkgs.lib.licenses.mit;
            mainProgram = "langfast2api";
          };
        };
      });

      nixosModules.default =
        { config, lib, pkgs, ... }:
        let
          settings = config.services.langfast2api;
        in
        {
          options.services.langfast2api = {
            enable = lib.mkEnableOption "langfast2api";
            environment = lib.mkOption {
              type = lib.types.attrsOf lib.types.str;
              default = { };
              example = { LANGFAST2API_LISTEN = "127.0.0.1:8000"; };
              description = "Settings, as variables. Secrets belong into files: what stands here can be read by all.";
            };
            apiKeysFile = lib.mkOption {
              type = lib.types.path;
              description = "A file of API keys, a line each, that root alone can read.";
            };
          };
          config = lib.mkIf settings.enable {
            systemd.services.langfast2api = {
              inherit (settings) environment;
              wantedBy = [ "multi-user.target" ];
              wants = [ "network-online.target" ];
              after = [ "network-online.target" ];
              serviceConfig = {
                Type = "notify";
                ExecStart = lib.getExe self.packages.${pkgs.stdenv.hostPlatform.system}.default;
                ExecReload = "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
                LoadCredential = "api-keys:${settings.apiKeysFile}";
                DynamicUser = true;
                StateDirectory = "langfast2api";
                StateDirectoryMode = "0700";
                WatchdogSec = 30;
                Restart = "on-failure";
                RestartPreventExitStatus = 2;
                TimeoutStopSec = 40;
                CapabilityBoundingSet = "";
                ProtectSystem = "strict";
                ProtectHome = true;
                PrivateDevices = true;
                PrivateUsers = true;
                RestrictAddressFamilies = "AF_INET AF_INET6 AF_UNIX";
                SystemCallFilter = "@system-service";
              };
            };
          };
        };
    };
}
