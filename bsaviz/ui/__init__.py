"""Explorers for notebooks: widgets beside a live 3D scene."""
